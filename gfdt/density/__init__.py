"""The density that a score stands for: its samples, its likelihood, and a bound that judges it."""

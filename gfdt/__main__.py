"""``python -m gfdt``: the same as the command ``gfdt``."""

from gfdt.cli import main

if __name__ == "__main__":
    main()

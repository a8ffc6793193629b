"""Complete studies: they put simulators and estimators together, which the library modules never do."""

"""One module a verb of the command line; ``privynet.toolkit.main`` registers them."""

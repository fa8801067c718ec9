"""The implementations of attention strategies, one file for each family; `strategy.COMPONENTS` lists them all."""

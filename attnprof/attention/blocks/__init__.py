"""The attention blocks of the papers, one file for each; `blocks.catalogue.BLOCKS` lists them all."""

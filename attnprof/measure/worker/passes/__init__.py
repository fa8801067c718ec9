"""The separate passes over one case: each measures one thing."""

"""The toy of the paper's Figure 2: a spiral on a plane that is buried in many dimensions."""

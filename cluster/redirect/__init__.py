"""How clients find the instance that serves: one file for each driver, all with the same three verbs."""

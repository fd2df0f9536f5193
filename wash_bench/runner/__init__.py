"""From a configuration to finished cells: planning, training, evaluating."""

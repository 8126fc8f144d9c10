"""From dataset tables to the paper's result tables: splits -> stages 1 to 4 and baselines -> tables -> report."""

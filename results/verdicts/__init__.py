"""Whether something got worse: the gate's decision rule, baselines and facts."""

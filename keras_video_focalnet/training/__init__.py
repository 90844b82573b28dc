"""From clips and targets to a trained model: recipes, optimizers, schedules, and runs that can be resumed."""

"""From clips and targets to a trained model: recipes, the optimizers and schedules they name, and runs that survive."""

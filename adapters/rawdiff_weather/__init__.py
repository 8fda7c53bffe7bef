"""Weather and climate fields: stores of them, forecasts, their scores."""

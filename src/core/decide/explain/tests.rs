mod conditions;
mod scene;
mod sentences;

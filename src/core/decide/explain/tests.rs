mod conditions;
mod scene;
mod sentences;
mod troubles;

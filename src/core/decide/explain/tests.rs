mod conditions;
mod parts;
mod scene;
mod sentences;
mod troubles;

mod client;
mod containment;
mod files;
mod hostile;
mod locks;
mod model;

use client::{Client, OPEN, ROOT};

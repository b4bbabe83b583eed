//! The lines between a client and a node: one request a line, one answer a line, both JSON objects. This is
//! the contract's section on client lines as code; it neither reads sockets nor decides anything.
//!
//! | file | what it does |
//! |---|---|
//! | `request.rs` | [`parse`]: a line to a [`Request`], or to a [`BadRequest`] that says what and where |
//! | `operator.rs` | the same for what operators ask for |
//! | `response.rs` | [`Response`]: an answer as a value, and the line it makes |

mod operator;
mod request;
mod response;

pub use operator::OperatorOp;
pub use request::{BadRequest, Op, Read, Request, RequestKey, parse};
pub use request::{DEFAULT_SCAN_LIMIT, MAX_ID_BYTES, MAX_SCAN_LIMIT};
pub use response::{ErrorCode, Members, PeerStatus, Response, Status};

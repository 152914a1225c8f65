//! Routes.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::{
    events::Events,
    fault::Fault,
    generation::{Generation, Stage},
    ledger::Span,
    request::{self, Api, Ask},
    server::Server,
    source::Source,
    wire::Wire,
};
use crate::timer::now_ns;

/// The version of vLLM whose answers these are.
const VLLM_VERSION: &str = "0.32.0";
/// Name of the model where none is set.
const MODEL: &str = "null";
/// Longest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const STREAM: &str = "text/event-stream; charset=utf-8";

type Answer = Response<Either<Full<Bytes>, Generation>>;

/// The answer to any request.
pub(crate) async fn answer(
    server: Arc<Server>,
    wire: Arc<Wire>,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::POST, "/v1/completions") => {
            generate(server, wire, Api::Completions, request).await
        }
        (&Method::POST, "/v1/chat/completions") => generate(server, wire, Api::Chat, request).await,
        (&Method::GET, "/health" | "/ping") => whole(StatusCode::OK, JSON, Bytes::new()),
        (&Method::GET, "/version") => json(&serde_json::json!({ "version": VLLM_VERSION })),
        (&Method::GET, "/v1/models") => json(&models(&server)),
        (&Method::GET, "/metrics") => {
            let page = server.ledger().metrics(server.model_name());
            whole(StatusCode::OK, TEXT, page)
        }
        (&Method::GET, "/truth") => json(&server.ledger().truth()),
        (_, "/v1/completions" | "/v1/chat/completions") => {
            error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedError", "use POST")
        }
        _ => error(StatusCode::NOT_FOUND, "NotFoundError", "no such route"),
    }
}

impl Server {
    fn model_name(&self) -> &str {
        self.options.served_model_name.as_deref().unwrap_or(MODEL)
    }
}

fn models(server: &Server) -> serde_json::Value {
    let name = server.model_name();
    serde_json::json!({ "object": "list", "data": [{
        "id": name,
        "object": "model",
        "created": unix_time_s(),
        "owned_by": "vllm",
        "root": name,
        "parent": null,
        "max_model_len": server.options.max_model_len,
        "permission": [],
    }] })
}

/// Answers a request for a completion.
async fn generate(
    server: Arc<Server>,
    wire: Arc<Wire>,
    api: Api,
    request: Request<Incoming>,
) -> Answer {
    let body = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(cause) => {
            server.ledger().refused += 1;
            return error(StatusCode::PAYLOAD_TOO_LARGE, "BadRequestError", &cause.to_string());
        }
    };
    let arrival_ns = wire.read_ns();
    let ask = match request::parse(api, &body, server.options.max_model_len) {
        Ok(ask) => ask,
        Err(cause) => {
            server.ledger().refused += 1;
            return error(StatusCode::BAD_REQUEST, "BadRequestError", &cause);
        }
    };
    if let (Some(asked), Some(served)) = (&ask.model, &server.options.served_model_name)
        && asked != served
    {
        server.ledger().refused += 1;
        let cause = format!("The model `{asked}` does not exist.");
        return error(StatusCode::NOT_FOUND, "NotFoundError", &cause);
    }
    let (number, fault) = server.arrived(arrival_ns);
    if let Some(status) = fault.and_then(Fault::status) {
        let status = StatusCode::from_u16(status).expect("faults have valid statuses");
        return error(status, "InternalServerError", "failed on purpose");
    }
    server.ledger().started();
    if ask.stream {
        stream(server, wire, ask, arrival_ns, number, fault)
    } else {
        complete(&server, ask, arrival_ns, number).await
    }
}

fn stream(
    server: Arc<Server>,
    wire: Arc<Wire>,
    mut ask: Ask,
    arrival_ns: u64,
    number: u64,
    fault: Option<Fault>,
) -> Answer {
    let source = server.source(&ask, number, arrival_ns);
    let events = server.events(&mut ask, number);
    wire.begin(Span { arrival_ns, prompt_tokens: events.prompt_tokens(), ..Span::default() });
    let content_type =
        if fault == Some(Fault::WrongContentType) { "text/html; charset=utf-8" } else { STREAM };
    let generation = Generation {
        source,
        wire,
        events,
        tokens_total: ask.max_tokens,
        include_usage: ask.include_usage,
        // In the middle, so that the client has something in hand when it strikes.
        fault: fault.map(|fault| (fault, ask.max_tokens / 2)),
        stage: if ask.api == Api::Chat { Stage::Role } else { Stage::Tokens },
        tokens_sent: 0,
        next: None,
        is_flush_due: false,
        server,
    };
    let mut response = Response::new(Either::Right(generation));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer in one piece, once its last token is out.
async fn complete(server: &Server, mut ask: Ask, arrival_ns: u64, number: u64) -> Answer {
    let mut source = server.source(&ask, number, arrival_ns);
    let events = server.events(&mut ask, number);
    let mut span = Span { arrival_ns, prompt_tokens: events.prompt_tokens(), ..Span::default() };
    // hyper drops this future when the client goes away.
    let mut in_flight = InFlight { server, is_complete: false };
    for count in 1..=ask.max_tokens {
        let due =
            std::future::poll_fn(|context| source.poll_token(count, &server.timer, context)).await;
        match due {
            Ok(due_ns) => server.ledger().tokens(&mut span, 1, due_ns, now_ns()),
            Err(cause) => {
                let cause = cause.to_string();
                return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", &cause);
            }
        }
    }
    in_flight.is_complete = true;
    span.phases = source.phases();
    server.ledger().completed(&span, now_ns());
    whole(StatusCode::OK, JSON, events.whole(ask.max_tokens))
}

/// Counts a request as aborted unless it is completed.
struct InFlight<'a> {
    server: &'a Server,
    is_complete: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.server.ledger().aborted();
        }
    }
}

impl Server {
    fn events(&self, ask: &mut Ask, number: u64) -> Events {
        let model = ask.model.take();
        let model = serde_json::Value::from(model.as_deref().unwrap_or(self.model_name()));
        Events::new(
            ask,
            number,
            unix_time_s(),
            &model.to_string(),
            (self.options.events_per_write, self.options.stream_interval),
        )
    }

    fn source(&self, ask: &Ask, number: u64, arrival_ns: u64) -> Source {
        match &self.engine {
            Some(engine) => {
                Source::Engine(engine.submit(number, &ask.prompt, ask.max_tokens, arrival_ns))
            }
            None => {
                let first_ns = arrival_ns + self.options.ttft_ns;
                let gap_ns = self.options.itl_ns;
                let first_ns = match self.options.is_synchronised {
                    true => first_ns.next_multiple_of(gap_ns.max(1)),
                    false => first_ns,
                };
                Source::Schedule { first_ns, gap_ns, asked_ns: 0 }
            }
        }
    }
}

fn unix_time_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn json(value: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("the types here are JSON");
    whole(StatusCode::OK, JSON, body)
}

/// An error in vLLM's shape.
fn error(status: StatusCode, kind: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "error": {
        "message": message, "type": kind, "param": null, "code": status.as_u16(),
    } });
    whole(status, JSON, body.to_string())
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

//! Records to send, stored with the effect and forwarded behind it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ids::signed;
use super::session::{Cells, Kind, Session, unexpected};
use crate::error::StoreError;
use crate::inbox::Outgoing;

const ROW: [Kind; 5] = [Kind::Int, Kind::Text, Kind::Bytes, Kind::Bytes, Kind::Bytes];

pub(crate) async fn emit<S: Session>(session: &mut S, record: &Outgoing) -> Result<(), StoreError> {
    let headers = encode(&record.headers)?;
    let args = [
        (&*record.topic).into(),
        super::Value::Bytes(record.key.as_deref()),
        super::Value::Bytes(record.value.as_deref()),
        (&*headers).into(),
    ];
    let emit = S::DIALECT.statements().emit;
    session.execute(emit, &args).await.map(|_| ())
}

pub(crate) async fn outgoing<S: Session>(
    session: &mut S,
    max: usize,
) -> Result<Vec<(u64, Outgoing)>, StoreError> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let outgoing = S::DIALECT.statements().outgoing;
    let rows = session.rows(outgoing, &[max.into()], &ROW).await?;
    rows.into_iter().map(decode).collect()
}

pub(crate) async fn forwarded<S: Session>(session: &mut S, through: u64) -> Result<(), StoreError> {
    let through = signed(through)?;
    let forwarded = S::DIALECT.statements().forwarded;
    session
        .execute(forwarded, &[through.into()])
        .await
        .map(|_| ())
}

/// Numbers what was committed since, in the order of its keys. What commits later is numbered later.
#[cfg(feature = "postgres")]
pub(crate) async fn number<S: Session>(session: &mut S, max: usize) -> Result<(), StoreError> {
    use super::statements::numbering;

    let max = i64::try_from(max).unwrap_or(i64::MAX);
    // The lock keeps a second caller out.
    let last = super::session::row(session, numbering::LOCK, &[], &[Kind::Int]).await?;
    let last = last.ok_or_else(unexpected)?.int()?;
    let numbered = session
        .execute(numbering::NUMBER, &[max.into(), last.into()])
        .await?;
    if numbered > 0 {
        let numbered = signed(numbered)?;
        session
            .execute(numbering::COUNT, &[numbered.into()])
            .await?;
    }
    Ok(())
}

fn decode(mut cells: Cells) -> Result<(u64, Outgoing), StoreError> {
    let number = cells.count()?;
    let topic = cells.maybe_text()?.ok_or_else(unexpected)?;
    let key = cells.maybe_bytes()?.map(Bytes::from);
    let value = cells.maybe_bytes()?.map(Bytes::from);
    let headers = Bytes::from(cells.maybe_bytes()?.ok_or_else(unexpected)?);
    let headers = decode_headers(headers).ok_or_else(unexpected)?;
    let record = Outgoing {
        topic: topic.into(),
        key,
        value,
        headers,
    };
    Ok((number, record))
}

type Headers = Vec<(Arc<str>, Option<Bytes>)>;

/// Each header: length and bytes of its name, a 1 in front of length and bytes of its value, or a 0.
fn encode(headers: &Headers) -> Result<Vec<u8>, StoreError> {
    let mut bytes = BytesMut::new();
    for (name, value) in headers {
        put(&mut bytes, name.as_bytes())?;
        bytes.put_u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(&mut bytes, value)?;
        }
    }
    Ok(bytes.into())
}

fn put(bytes: &mut BytesMut, part: &[u8]) -> Result<(), StoreError> {
    let length = u32::try_from(part.len())
        .map_err(|_| StoreError::Misuse("a header is shorter than 4 GiB"))?;
    bytes.put_u32(length);
    bytes.put_slice(part);
    Ok(())
}

fn decode_headers(mut bytes: Bytes) -> Option<Headers> {
    let mut headers = Headers::new();
    while bytes.has_remaining() {
        let name = take(&mut bytes)?;
        let name = std::str::from_utf8(&name).ok()?.into();
        let value = match bytes.try_get_u8().ok()? {
            0 => None,
            _ => Some(take(&mut bytes)?),
        };
        headers.push((name, value));
    }
    Some(headers)
}

fn take(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_cut_ones_do_not() {
        let headers: Headers = vec![
            ("a".into(), Some(Bytes::from_static(b"1"))),
            ("".into(), None),
            ("a".into(), Some(Bytes::new())),
        ];
        let bytes = Bytes::from(encode(&headers).unwrap());
        assert_eq!(decode_headers(bytes.clone()), Some(headers));
        assert_eq!(decode_headers(bytes.slice(..bytes.len() - 1)), None);
    }
}

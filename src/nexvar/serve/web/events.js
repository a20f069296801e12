/** The text of server-sent events, read. */

/** @param {string} text what has come and was not read @returns {{events: any[], rest: string}} rest: of an event still to come */
export function parseEvents(text) {
  const blocks = text.replaceAll('\r\n', '\n').split('\n\n');
  const rest = blocks.pop() ?? '';
  return { events: blocks.map(parseEvent).filter((each) => each !== null), rest };
}

function parseEvent(block) {
  const data = [];
  let [event, id] = ['message', ''];
  for (const line of block.split('\n')) {
    const match = /^(\w+): ?(.*)$/.exec(line);
    if (match?.[1] === 'data') data.push(match[2]);
    if (match?.[1] === 'event') event = match[2];
    if (match?.[1] === 'id') id = match[2];
  }
  return data.length ? { event, id, data: JSON.parse(data.join('\n')) } : null;
}

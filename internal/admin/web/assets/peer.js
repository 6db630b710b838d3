// The media of a call: one RTCPeerConnection with telephone sound in it.

const CODECS = ['audio/pcmu', 'audio/pcma', 'audio/telephone-event'];
const KEY = { length: 120, gap: 70 }; // milliseconds; RFC 4733 events of at least 40 are heard everywhere

/**
 * @typedef {object} PeerSink
 * @property {(candidate: RTCIceCandidate) => void} candidate a way to reach this browser was found
 * @property {(count: number) => void} gathered no more will be found; count of those that were
 * @property {(state: RTCPeerConnectionState) => void} state
 * @property {(stream: MediaStream) => void} stream what the far end sends
 */

/** One peer connection. Every method may be called until close. */
export class Peer {
  #sender;
  #found = 0;

  /**
   * @param {RTCIceServer[]} iceServers
   * @param {MediaStream} microphone
   * @param {PeerSink} sink
   */
  constructor(iceServers, microphone, sink) {
    const pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.connection = pc;
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      this.#found += 1;
      sink.candidate(candidate);
    };
    pc.onicegatheringstatechange = () => { if (pc.iceGatheringState === 'complete') sink.gathered(this.#found); };
    pc.onconnectionstatechange = () => sink.state(pc.connectionState);
    pc.ontrack = ({ track, streams }) => sink.stream(streams[0] ?? new MediaStream([track]));
    const [track] = microphone.getAudioTracks();
    const transceiver = pc.addTransceiver(track, { direction: 'sendrecv', streams: [microphone] });
    prefer(transceiver);
    this.#sender = transceiver.sender;
  }

  /**
   * Makes an offer and takes it as ours. It holds the candidates known so far.
   * @param {boolean} [restart] look for new ways to each other
   * @returns {Promise<string>} SDP
   */
  async offer(restart = false) {
    await this.connection.setLocalDescription(await this.connection.createOffer({ iceRestart: restart }));
    return this.connection.localDescription.sdp;
  }

  /** @param {string} sdp the far end's answer */
  accept(sdp) {
    return this.connection.setRemoteDescription({ type: 'answer', sdp });
  }

  /** Sends from another microphone. @param {MediaStreamTrack} track */
  replace(track) {
    return this.#sender.replaceTrack(track);
  }

  /**
   * Sends keys as telephone events (RFC 4733), after those still on their way.
   * @param {string} keys
   * @returns {boolean} false where the far end or the browser takes none
   */
  dial(keys) {
    const dtmf = this.#sender.dtmf;
    if (!dtmf?.canInsertDTMF) return false;
    try {
      dtmf.insertDTMF(dtmf.toneBuffer + keys, KEY.length, KEY.gap);
      return true;
    } catch {
      return false;
    }
  }

  /** Ends the connection. */
  close() {
    const pc = this.connection;
    pc.onicecandidate = pc.onicegatheringstatechange = pc.onconnectionstatechange = pc.ontrack = null;
    pc.close();
  }
}

/** Offers what a telephone speaks and nothing else, where the browser lets us. */
function prefer(transceiver) {
  const known = RTCRtpReceiver.getCapabilities?.('audio')?.codecs ?? [];
  const wanted = CODECS.flatMap((type) => known.filter((c) => c.mimeType.toLowerCase() === type && c.clockRate === 8000));
  if (!transceiver.setCodecPreferences || !wanted.some((c) => c.mimeType.toLowerCase() !== CODECS[2])) return;
  try {
    transceiver.setCodecPreferences(wanted);
  } catch {
    // Everything is offered then, and the bridge picks.
  }
}

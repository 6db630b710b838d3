// A softphone in a page: JsSIP, as the end-to-end tests drive it.
const softphone = { state: 'new', registrations: 0, obeys: true, referred: '' };
window.softphone = softphone;

/** Registers; registrations counts, and state says why not. */
softphone.register = (socket, uri) => {
  JsSIP.debug.disable();
  const ua = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(socket)], uri, password: 'any', session_timers: false, register: true });
  softphone.ua = ua;
  ua.on('registered', () => { softphone.registrations += 1; });
  ua.on('registrationFailed', (e) => { softphone.state = `failed: ${e.cause}`; });
  ua.start();
};

function hear(stream) {
  const audio = document.getElementById('far');
  audio.srcObject = stream;
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 8192 });
  context.createMediaStreamSource(stream).connect(analyser);
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  softphone.frequency = () => {
    analyser.getFloatFrequencyData(spectrum);
    const best = spectrum.reduce((at, v, i) => (v > spectrum[at] ? i : at), 0);
    return spectrum[best] < -80 ? 0 : best * context.sampleRate / analyser.fftSize;
  };
}

softphone.call = (target) => {
  const session = softphone.ua.call(target, {
    mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] }, sessionTimersExpires: 120,
  });
  softphone.session = session;
  softphone.state = 'calling';
  const watch = (connection) => connection.addEventListener('track', (e) => hear(e.streams[0] ?? new MediaStream([e.track])));
  if (session.connection) watch(session.connection); else session.on('peerconnection', (e) => watch(e.peerconnection));
  session.on('confirmed', () => { softphone.state = 'confirmed'; });
  session.on('failed', (e) => { softphone.state = `failed: ${e.cause}`; });
  session.on('ended', (e) => { softphone.state = `ended: ${e.originator} ${e.cause}`; });
  session.on('refer', (e) => {
    softphone.referred = String(e.request.refer_to?.uri ?? '');
    if (!softphone.obeys) { e.reject(); return; }
    e.accept((transferred) => { softphone.next = transferred; }, { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } });
  });
};

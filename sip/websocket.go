package sip

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
)

// handshakeTime is how long a client may take to ask for a WebSocket, TLS
// included.
const handshakeTime = 10 * time.Second

// subprotocol is what the client must offer (RFC 7118 4.1).
const subprotocol = "sip"

// A WebSocketClient is who sent an HTTP request, as far as the program that
// serves HTTP knows better than the connection does.
type WebSocketClient struct {
	Addr netip.Addr // of the client, not of a proxy in front of us
	TLS  bool       // the client speaks TLS, with us or with that proxy
	Host string     // that the client asked for, with the port unless it is the usual one
}

// WebSocket returns a handler that turns requests into connections for SIP
// (RFC 7118), to be hung into an HTTP server of the program's. client tells who
// asks, for programs behind proxies that they trust; nil: whom the connection
// and the request's Host name. Sources that no trunk lists are answered with 403
// and nothing more. The connections belong to the Server: they end with
// Shutdown, not with that HTTP server. The response writer has to be an
// http.Hijacker.
func (s *Server) WebSocket(client func(*http.Request) WebSocketClient) http.Handler {
	if client == nil {
		client = func(r *http.Request) WebSocketClient {
			return WebSocketClient{Addr: addrPort(r.RemoteAddr).Addr(), TLS: r.TLS != nil, Host: r.Host}
		}
	}
	return &upgrader{server: s, client: client, place: s.flows.place}
}

// SetOrigins replaces Config.Origins. Connections that are open stay.
func (s *Server) SetOrigins(origins []string) error {
	m := make(map[string]bool, len(origins))
	for _, o := range origins {
		site, ok := siteOf(o)
		if !ok {
			return fmt.Errorf("origin %q is not like https://shop.example.com: %w", o, ErrInvalid)
		}
		m[site] = true
	}
	s.origins.Store(&m)
	return nil
}

// siteOf brings an origin (RFC 6454 6.2) into one form: lower case, with the
// port.
func siteOf(origin string) (string, bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", false
	}
	switch u.Scheme {
	case "http":
		return "http://" + hostWithPort(u.Host, "80"), true
	case "https":
		return "https://" + hostWithPort(u.Host, "443"), true
	}
	return "", false
}

func hostWithPort(host, usual string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i <= strings.LastIndexByte(host, ']') {
		host += ":" + usual
	}
	return host
}

// welcomes reports whether a page may open a WebSocket. Only browsers send an
// Origin; of others, the network decides.
func (s *Server) welcomes(r *http.Request, c WebSocketClient) bool {
	sent, ok := r.Header["Origin"]
	if !ok {
		return true
	}
	if len(sent) != 1 {
		return false
	}
	site, ok := siteOf(sent[0])
	if !ok {
		return false // "null" too, which is what any sandboxed page says.
	}
	usual := "80"
	if c.TLS {
		usual = "443"
	}
	_, host, _ := strings.Cut(site, "://")
	own := host == hostWithPort(c.Host, usual) && (c.TLS || fixed(host))
	return own || (*s.origins.Load())[site]
}

// fixed reports whether a host can lead nowhere else: an address, or localhost.
// Any other name may be that of a page which has made it lead to us, where no
// certificate proves that it is ours.
func fixed(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "localhost"
}

// An upgrader makes flows of HTTP requests.
type upgrader struct {
	server *Server
	client func(*http.Request) WebSocketClient
	place  func(netip.Addr) (release func())
}

// ServeHTTP implements http.Handler.
func (u *upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, c := u.server, u.client(r)
	c.Addr = c.Addr.Unmap().WithZone("")
	if !c.Addr.IsValid() || s.admission.trunk(c.Addr) == nil {
		s.metrics.dropped("source")
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if code, why := s.mayUpgrade(w.Header(), r, c); code != 0 {
		s.metrics.dropped("upgrade")
		s.log.Debug("websocket refused", zap.Stringer("source", c.Addr), zap.Int("status", code), zap.String("reason", why))
		http.Error(w, why, code)
		return
	}
	release := u.place(c.Addr)
	if release == nil {
		s.metrics.dropped("connections")
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	conn, err := (&websocket.Upgrader{
		HandshakeTimeout: writeTime, Subprotocols: []string{subprotocol},
		CheckOrigin: func(*http.Request) bool { return true }, // It is checked.
	}).Upgrade(w, r, nil)
	if err != nil {
		release()
		s.metrics.dropped("upgrade")
		s.log.Debug("websocket refused", zap.Stringer("source", c.Addr), zap.Error(err))
		return
	}
	t := WS
	if c.TLS {
		t = WSS
	}
	remote := netip.AddrPortFrom(c.Addr, addrPort(r.RemoteAddr).Port())
	f := s.newFlow(t, remote, addrPort(conn.LocalAddr().String()), release)
	k := newSocket(conn, f.wanted)
	f.link = k
	if f.start() != nil {
		return
	}
	s.spawn(func() { k.keep(f) }, nil)
}

// mayUpgrade says what is wrong with a request for a WebSocket; zero: nothing.
// h takes what the answer needs besides.
func (s *Server) mayUpgrade(h http.Header, r *http.Request, c WebSocketClient) (code int, why string) {
	switch {
	case r.Method != http.MethodGet:
		h.Set("Allow", http.MethodGet)
		return http.StatusMethodNotAllowed, "SIP over WebSocket begins with GET"
	case !websocket.IsWebSocketUpgrade(r):
		h.Set("Upgrade", "websocket") // RFC 9110 15.5.22.
		h.Set("Connection", "Upgrade")
		return http.StatusUpgradeRequired, "only SIP over WebSocket is spoken here"
	case r.Header.Get("Sec-Websocket-Version") != "13":
		h.Set("Sec-Websocket-Version", "13") // RFC 6455 4.4.
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		return http.StatusUpgradeRequired, "only version 13 of WebSocket is spoken here"
	case !s.welcomes(r, c):
		return http.StatusForbidden, "this origin may not call here"
	case !slices.Contains(websocket.Subprotocols(r), subprotocol):
		return http.StatusBadRequest, "the WebSocket subprotocol sip is missing"
	}
	return 0, ""
}

// serveUpgrades takes the connections of a listener that serves nothing else.
func (s *Server) serveUpgrades(g *gate, t Transport) error {
	up := &upgrader{
		server: s,
		client: func(r *http.Request) WebSocketClient {
			return WebSocketClient{Addr: addrPort(r.RemoteAddr).Addr(), TLS: t == WSS, Host: r.Host}
		},
		place: func(netip.Addr) func() { return func() {} }, // The gate has taken it; the connection gives it back.
	}
	var open sync.WaitGroup
	web := &http.Server{
		Handler: up, ReadHeaderTimeout: handshakeTime, ReadTimeout: handshakeTime, WriteTimeout: handshakeTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: zap.NewStdLog(zap.New(quiet{s.log.Core()})),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Done()
			default:
			}
		},
	}
	web.SetKeepAlivesEnabled(false)
	err := web.Serve(g)
	_ = web.Close()
	open.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/admin"
	"github.com/ivrbridge/ivrbridge/internal/tlscert"
	"github.com/ivrbridge/ivrbridge/media/rtc"
	"github.com/ivrbridge/ivrbridge/sip"
)

// sipPath is where pages open SIP over WebSocket (RFC 7118).
const sipPath = "/sip"

// farewell is what pages are given to hear of the end of the bridge.
const farewell = time.Second

// openRTC opens the port of browsers' media.
func (a *App) openRTC(ctx context.Context) error {
	listen := a.conf.RTC.Listen
	if listen == "" {
		return nil
	}
	addr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return fmt.Errorf("rtc.listen: %w", err)
	}
	var lc net.ListenConfig
	udp, err := lc.ListenPacket(ctx, family("udp", addr), addr.String())
	if err != nil {
		return fmt.Errorf("listen for browsers' media, write another port in rtc.listen: %w", err)
	}
	if u, ok := udp.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(receiveBuffer)
	}
	tcp, err := lc.Listen(ctx, family("tcp", addr), addr.String())
	if err != nil {
		_ = udp.Close()
		return fmt.Errorf("listen for browsers' media, write another port in rtc.listen: %w", err)
	}
	conf := rtc.Config{
		UDP: udp, TCP: tcp, Engine: a.engine, Log: a.log.Named("rtc"), Metrics: a.opts.Registry,
		// Pages of this machine are served at loopback; elsewhere such a candidate
		// is never paired.
		Loopback: true,
	}
	if ip := a.external(a.conf.SIP.ExternalIP); ip.IsValid() {
		conf.External = []netip.Addr{ip}
	}
	for _, s := range a.conf.RTC.ICEServers {
		conf.ICEServers = append(conf.ICEServers, rtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential.Reveal()})
	}
	if a.rtc, err = rtc.New(conf); err != nil { //nolint:contextcheck // until Stop
		_, _ = udp.Close(), tcp.Close()
		return fmt.Errorf("browsers' media: %w", err)
	}
	a.phones = newPhones(a, a.rtc)
	a.later("browsers' media", func(context.Context) error { a.rtc.Close(); return nil })
	a.log.Info("browsers' media port open", zap.Stringer("address", udp.LocalAddr()))
	return nil
}

// serveHTTP opens the listeners of health, metrics, API and pages.
func (a *App) serveHTTP() error {
	web := a.conf.HTTP
	if web.Listen == "" && web.HTTPS == "" {
		return nil
	}
	var cert *tlscert.Source
	if web.HTTPS != "" {
		var err error
		if cert, err = a.certificate(); err != nil {
			return fmt.Errorf("certificate of https: %w", err)
		}
	}
	h := a.handler(cert)
	if web.Listen != "" {
		plain := h
		if cert != nil {
			plain = cert.Challenge(h)
		}
		l, err := net.Listen("tcp", web.Listen) //nolint:noctx // closed by the cleanup
		if err != nil {
			return fmt.Errorf("listen for http: %w", err)
		}
		a.web = l
		a.serveOn(l, plain, "http")
	}
	if web.HTTPS != "" {
		l, err := net.Listen("tcp", web.HTTPS) //nolint:noctx // closed by the cleanup
		if err != nil {
			return fmt.Errorf("listen for https: %w", err)
		}
		a.secure = l
		a.serveOn(tls.NewListener(l, cert.TLS()), h, "https")
	}
	return nil
}

func (a *App) serveOn(l net.Listener, h http.Handler, scheme string) {
	server := admin.NewServer(h, a.log)
	a.work.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.log.Error(scheme+" listener ended", zap.Error(err))
		}
	})
	a.later(scheme, func(ctx context.Context) error {
		// Pages are still told how their calls ended; who does not read that is not
		// waited for.
		ctx, cancel := context.WithTimeout(ctx, farewell)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return server.Close()
	})
	a.log.Info(scheme+" listener open", zap.Stringer("address", l.Addr()))
}

// sipCertificate is that of the wss:// sockets.
func (a *App) sipCertificate() (*tls.Config, error) {
	t := a.conf.SIP.TLS
	source, err := tlscert.New(tlscert.Config{Cert: t.Cert, Key: t.Key, Log: a.log})
	if err != nil {
		return nil, err
	}
	return source.TLS(), nil
}

// certificate finds that of the https listener.
func (a *App) certificate() (*tlscert.Source, error) {
	t := a.conf.HTTP.TLS
	c := tlscert.Config{
		Cert: t.Cert, Key: t.Key, Cache: t.Cache, Log: a.log,
		ACME: tlscert.ACME{Domains: t.ACME.Domains, Email: t.ACME.Email, Directory: t.ACME.Directory},
	}
	if u, err := url.Parse(a.conf.HTTP.PublicURL); err == nil && u.Hostname() != "" {
		c.Hosts = append(c.Hosts, u.Hostname())
	}
	if ip := a.external(a.conf.SIP.ExternalIP); ip.IsValid() {
		c.Hosts = append(c.Hosts, ip.String())
	}
	return tlscert.New(c)
}

// handler serves everything that is reached over HTTP.
func (a *App) handler(cert *tlscert.Source) http.Handler {
	web := a.conf.HTTP
	conf := admin.Config{
		Ready: a.ready, Gatherer: a.opts.Registry, Calls: &a.calls, Token: web.Token, Loopback: web.Loopback(), Log: a.log,
		Routes: a.opts.Routes, Origins: a.origins, Proxies: web.TrustedProxies, PublicURL: web.PublicURL, HTTPS: web.HTTPS,
		Metrics: a.opts.Registry,
	}
	if a.phones != nil {
		conf.Phone = a.phones
	}
	if cert != nil {
		conf.Trusted = cert.Trusted
	}
	mux := http.NewServeMux()
	mux.Handle("/", admin.New(conf))
	who := admin.Clients(web.TrustedProxies, web.PublicURL)
	sockets := a.server.WebSocket(func(r *http.Request) sip.WebSocketClient {
		c := who(r)
		return sip.WebSocketClient{Addr: c.Addr, TLS: c.TLS, Host: c.Host}
	})
	mux.HandleFunc("GET "+sipPath, func(w http.ResponseWriter, r *http.Request) {
		if who(r).Rebound {
			a.log.Warn("sip over websocket refused", zap.String("reason", "a name that is not this machine's own led here"))
			w.WriteHeader(http.StatusForbidden)
			return
		}
		sockets.ServeHTTP(w, r)
	})
	return mux
}

// origins are the sites whose pages may call, by agent.
func (a *App) origins() map[string][]string {
	out := map[string][]string{}
	for _, ag := range a.conf.Agents {
		if len(ag.Web.Origins) > 0 {
			out[ag.Name] = ag.Web.Origins
		}
	}
	return out
}

// Page returns the address of the phone's page, "" when there is none.
func (a *App) Page() string {
	switch {
	case a.phones == nil:
		return ""
	case a.conf.HTTP.PublicURL != "":
		return strings.TrimSuffix(a.conf.HTTP.PublicURL, "/") + "/"
	case a.web != nil && a.conf.HTTP.Loopback():
		return "http://" + a.web.Addr().String() + "/"
	case a.secure != nil:
		return "https://" + outside(a.secure.Addr()) + "/"
	case a.web != nil:
		return "http://" + outside(a.web.Addr()) + "/"
	}
	return ""
}

// outside is where a bound address is reached from outside.
func outside(l net.Addr) string {
	at, err := netip.ParseAddrPort(l.String())
	if err != nil {
		return l.String()
	}
	ips := reachable(at.Addr())
	return netip.AddrPortFrom(ips[len(ips)-1], at.Port()).String()
}

package sip

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// How WebSockets are kept and given up.
const (
	pingEvery  = 25 * time.Second // below what proxies and translators forget at
	pongTime   = 60 * time.Second // without a sign of life the far end is gone
	socketIdle = 10 * time.Minute // without a message, call, or registration
	// maxDiscard is how much of a message that is too long is read for the sake
	// of the answer.
	maxDiscard = 1 << 20
)

// errIdle ends a WebSocket that nobody uses.
var errIdle = errors.New("sip: connection is not used")

// A socket is the link of a flow over WebSocket: each message of it carries one
// SIP message (RFC 7118 5).
type socket struct {
	conn   *websocket.Conn
	wanted func() bool
	used   atomic.Int64 // when a message last came or went, in nanoseconds of the Unix epoch
	begun  bool         // a message has begun to arrive; its deadline stands; used by next only
	writer sync.Mutex   // held while a message is written
}

func newSocket(conn *websocket.Conn, wanted func() bool) *socket {
	k := &socket{conn: conn, wanted: wanted}
	k.used.Store(time.Now().UnixNano())
	conn.SetPongHandler(func(string) error { return k.extend() })
	conn.SetPingHandler(func(data string) error {
		if err := k.extend(); err != nil {
			return err
		}
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTime))
	})
	return k
}

// extend gives the far end time until its next sign of life, unless it owes us
// the rest of a message. It is called by next.
func (k *socket) extend() error {
	if k.begun {
		return nil
	}
	return k.conn.SetReadDeadline(time.Now().Add(pongTime))
}

// next implements link. What follows a SIP message in one message of the
// WebSocket is thrown away (RFC 3261 18.3).
func (k *socket) next() ([]byte, error) {
	for {
		if err := k.extend(); err != nil {
			return nil, err
		}
		_, r, err := k.conn.NextReader() // Text and binary are alike.
		if err != nil {
			return nil, err
		}
		k.begun = true
		if err := k.conn.SetReadDeadline(time.Now().Add(messageTime)); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, maxStream+1))
		if err != nil {
			return nil, err
		}
		if len(data) > maxStream {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, maxDiscard))
			return data, errTooLong()
		}
		k.begun = false
		k.used.Store(time.Now().UnixNano())
		rest, ping := trimPings(data)
		if len(rest) > 0 {
			return rest, nil
		}
		if ping {
			if err := k.write([]byte("\r\n")); err != nil {
				return nil, err
			}
		}
	}
}

// write implements link: as text, which pages read best, if it is UTF-8.
func (k *socket) write(b []byte) error {
	kind := websocket.BinaryMessage
	if utf8.Valid(b) {
		kind = websocket.TextMessage
	}
	k.used.Store(time.Now().UnixNano())
	k.writer.Lock()
	defer k.writer.Unlock()
	if err := k.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return k.conn.WriteMessage(kind, b)
}

// end implements link, with the status codes of RFC 6455 7.4.1.
func (k *socket) end(why error) {
	code := websocket.CloseNormalClosure
	var too *scanError
	switch {
	case errors.As(why, &too):
		code = websocket.CloseMessageTooBig
	case errors.Is(why, ErrServerDown):
		code = websocket.CloseGoingAway
	}
	// One that came with the far end's close frame is answered already, and one
	// whose far end does not read learns nothing.
	_ = k.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	_ = k.conn.Close()
}

// keep sends pings, which browsers answer by themselves, until the flow ends
// (RFC 7118 6).
func (k *socket) keep(f *flow) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-ticker.C:
		}
		if time.Since(time.Unix(0, k.used.Load())) > socketIdle && !k.wanted() {
			f.end(errIdle)
			return
		}
		if err := k.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTime)); err != nil {
			f.end(err)
			return
		}
	}
}

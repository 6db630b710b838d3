package tts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	sniffed      = 512 // bytes by which sound without a header is told from text
	maxErrorBody = 2 << 10
)

// A StatusError is the refusal of a service.
type StatusError struct {
	Status int    // HTTP status
	Text   string // what the service says about it
}

// Error describes the refusal.
func (e *StatusError) Error() string {
	return fmt.Sprintf("service answers %d %s: %s", e.Status, http.StatusText(e.Status), e.Text)
}

// Permanent tells whether any other text would be refused too: the key, the
// account or the address is wrong.
func (e *StatusError) Permanent() bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// A raw is sound without a header.
type raw struct {
	rate   int
	law    bool // mu-law, else 16 bits, little endian
	accept []string
}

// A speechRequest is one POST to a service that answers with sound.
type speechRequest struct {
	client *http.Client
	url    string
	header http.Header
	key    secret.Secret // kept out of errors
	body   any           // of JSON
	raw    raw           // what the answer is where it has no header
}

// do sends the request and returns when the first sound is there.
func (r *speechRequest) do(ctx context.Context) (Audio, error) {
	body, err := json.Marshal(r.body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = r.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	res, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask service: %w", causeOf(ctx, err))
	}
	audio, err := r.open(ctx, res)
	if err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return audio, nil
}

func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (r *speechRequest) open(ctx context.Context, res *http.Response) (Audio, error) {
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
		return nil, &StatusError{Status: res.StatusCode, Text: r.clean(b)}
	}
	in := bufio.NewReaderSize(res.Body, 4<<10)
	head, err := in.Peek(sniffed)
	if len(head) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrSilent
		}
		return nil, fmt.Errorf("read sound: %w", causeOf(ctx, err))
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	body := &responseBody{Reader: in, body: res.Body}
	switch {
	case isText(head):
		return nil, fmt.Errorf("%w: service answers with text: %s", pcm.ErrFormat, r.clean(head))
	case hasHeader(head, kind):
		audio, err := pcm.Open(body, pcm.Limits{MaxInput: maxAudioIn, MaxOutput: maxSpoken})
		if err != nil {
			return nil, fmt.Errorf("decode sound of type %q: %w", kind, err)
		}
		return audio, nil
	case foreign(head), kind != "" && !slices.Contains(r.raw.accept, kind):
		return nil, fmt.Errorf("%w: service answers with %q", pcm.ErrFormat, kind)
	}
	return &rawAudio{raw: r.raw, in: body}, nil
}

// clean makes what a service wrote fit for a log.
func (r *speechRequest) clean(b []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	if r.key.Set() {
		text = strings.ReplaceAll(text, r.key.Reveal(), "***")
	}
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}

// hasHeader tells whether sound says itself what it is.
func hasHeader(head []byte, kind string) bool {
	switch kind {
	case "audio/mpeg", "audio/mp3", "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave":
		return true
	}
	return bytes.HasPrefix(head, []byte("RIFF")) || bytes.HasPrefix(head, []byte("ID3"))
}

// foreign tells whether head begins a file that is not decoded here.
func foreign(head []byte) bool {
	for _, magic := range []string{"OggS", "fLaC", "FORM", "\x1aE\xdf\xa3", "\x1f\x8b", "caff", ".snd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// isText tells whether head is a page or a message instead of sound. Sound has
// control characters or broken UTF-8 within the first milliseconds.
func isText(head []byte) bool {
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(head) || unicode.IsControl(r) && !unicode.IsSpace(r) {
			return false
		}
		head = head[n:]
	}
	return true
}

type responseBody struct {
	*bufio.Reader
	body io.Closer
}

func (b *responseBody) Close() error { return b.body.Close() }

// rawAudio is sound without a header, as it arrives.
type rawAudio struct {
	raw
	in    io.ReadCloser
	buf   [4 << 10]byte
	held  int // bytes in buf: half a sample
	total int64
	close sync.Once
}

// SampleRate implements Audio.
func (a *rawAudio) SampleRate() int { return a.rate }

// Read implements Audio. Half a sample at the end is dropped.
func (a *rawAudio) Read(p []int16) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	size := 2
	if a.law {
		size = 1
	}
	for {
		n, err := a.in.Read(a.buf[a.held:min(len(a.buf), len(p)*size)])
		n += a.held
		whole := n / size
		if a.total += int64(whole); a.total > int64(maxSpoken.Seconds())*int64(a.rate) {
			return 0, fmt.Errorf("read sound: %w", pcm.ErrLimit)
		}
		if a.law {
			pcm.Mu.Decode(p, a.buf[:n])
		} else {
			for i := range whole {
				p[i] = int16(binary.LittleEndian.Uint16(a.buf[2*i:]))
			}
		}
		a.held = copy(a.buf[:], a.buf[whole*size:n])
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("read sound: %w", err)
		}
		if whole > 0 || err != nil {
			return whole, err
		}
	}
}

// Close implements Audio.
func (a *rawAudio) Close() (err error) {
	a.close.Do(func() { err = a.in.Close() })
	return err
}

// checkURL says what is wrong with the address of a service.
func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("url: %q is no address of a service, write https://host", address)
	}
	return nil
}

// checkKey says when the service at address is known to need a key.
func checkKey(key secret.Secret, address, domain string) error {
	u, err := url.Parse(address)
	if err != nil || key.Set() || u.Hostname() != domain && !strings.HasSuffix(u.Hostname(), "."+domain) {
		return nil //nolint:nilerr // checkURL reports it
	}
	return errors.New("api_key: write env:NAME of the variable that holds it")
}

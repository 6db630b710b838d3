package tts_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

const apiKey = "sk-secret-0123456789"

func sine(rate, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(8000 * math.Sin(2*math.Pi*1000*float64(i)/float64(rate)))
	}
	return out
}

func little(samples []int16) []byte {
	var b []byte
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

func mulaw(samples []int16) []byte {
	b := make([]byte, len(samples))
	pcm.Mu.Encode(b, samples)
	return b
}

func wav(t *testing.T, rate, channels int, samples []int16) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, pcm.WriteWAV(&b, rate, channels, samples))
	return b.Bytes()
}

// answer is a service that answers every request with the same thing.
func answer(t *testing.T, status int, contentType string, body []byte) (url string, asked *http.Request, sent *map[string]any) {
	t.Helper()
	asked, sent = new(http.Request), new(map[string]any)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r
		_ = json.NewDecoder(r.Body).Decode(sent)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked, sent
}

func service(t *testing.T, name, url string) tts.Synthesizer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	s, err := tts.Providers.Open(t.Context(), name, func(into any) error {
		switch c := into.(type) {
		case *tts.OpenAIConfig:
			c.URL, c.APIKey = url+"/v1", secret.New(apiKey)
		case *tts.ElevenLabsConfig:
			c.URL, c.APIKey = url, secret.New(apiKey)
		}
		return nil
	}, registry.Deps{Log: zap.NewNop(), HTTP: client})
	require.NoError(t, err)
	return s
}

// hertz measures a tone by its zero crossings.
func hertz(rate int, samples []int16) float64 {
	crossings := 0
	for i := 1; i < len(samples); i++ {
		if samples[i-1] < 0 && samples[i] >= 0 {
			crossings++
		}
	}
	return float64(crossings) * float64(rate) / float64(len(samples))
}

func TestOpenAIRequest(t *testing.T) {
	url, asked, sent := answer(t, 200, "audio/pcm", little(sine(24000, 24000)))
	s := service(t, "openai", url)
	a, err := s.Synthesize(t.Context(), tts.Request{Text: "Hello", Voice: "nova"})
	require.NoError(t, err)
	samples, err := drain(a)
	require.NoError(t, err)
	require.Equal(t, sine(24000, 24000), samples)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.Equal(t, "/v1/audio/speech", asked.URL.Path)
	require.Equal(t, "Bearer "+apiKey, asked.Header.Get("Authorization"))
	require.Equal(t, map[string]any{"model": "gpt-4o-mini-tts", "voice": "nova", "input": "Hello", "response_format": "pcm"}, *sent)
	require.NotContains(t, s.Key(), apiKey)
}

func TestElevenLabsRequest(t *testing.T) {
	url, asked, sent := answer(t, 200, "audio/basic", mulaw(sine(8000, 8001)))
	s := service(t, "elevenlabs", url)
	a, err := s.Synthesize(t.Context(), tts.Request{Text: "Hello", Voice: "a/b", Language: "de-DE"})
	require.NoError(t, err)
	require.Equal(t, 8000, a.SampleRate())
	samples, err := drain(a)
	require.NoError(t, err)
	require.Len(t, samples, 8001)
	require.Equal(t, "/v1/text-to-speech/a%2Fb/stream", asked.URL.EscapedPath())
	require.Equal(t, "output_format=ulaw_8000", asked.URL.RawQuery)
	require.Equal(t, apiKey, asked.Header.Get("xi-api-key"))
	require.Equal(t, map[string]any{"text": "Hello", "model_id": "eleven_flash_v2_5", "language_code": "de"}, *sent)
}

// V4: sound is decoded by what it is, whatever it is called.
func TestSoundOfAnyKindKeepsItsPitch(t *testing.T) {
	stereo := make([]int16, 0, 88200)
	for _, s := range sine(44100, 44100) {
		stereo = append(stereo, s, s)
	}
	for name, c := range map[string]struct {
		service, kind string
		body          []byte
	}{
		"pcm":                 {"openai", "audio/pcm", little(sine(24000, 24000))},
		"pcm without type":    {"openai", "", little(sine(24000, 24000))},
		"wav for pcm":         {"openai", "audio/pcm", wav(t, 16000, 1, sine(16000, 16000))},
		"wav":                 {"openai", "audio/wav", wav(t, 48000, 1, sine(48000, 48000))},
		"stereo":              {"openai", "audio/wav", wav(t, 44100, 2, stereo)},
		"mu-law":              {"elevenlabs", "audio/basic", mulaw(sine(8000, 8000))},
		"wav instead of law":  {"elevenlabs", "application/octet-stream", wav(t, 22050, 1, sine(22050, 22050))},
		"half a sample extra": {"openai", "audio/pcm", append(little(sine(24000, 24000)), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			url, _, _ := answer(t, 200, c.kind, c.body)
			cache := tts.NewCache(1<<20, pcm.Mu)
			defer cache.Close()
			clip := cache.Clip(t.Context(), service(t, c.service, url), tts.Request{Text: "tone"})
			require.NoError(t, ready(t, clip))
			law, samples := make([]byte, clip.Len()), make([]int16, clip.Len())
			clip.Read(0, law, pcm.Mu)
			pcm.Mu.Decode(samples, law)
			require.InDelta(t, 1000, hertz(8000, samples[800:7200]), 10)
			require.InDelta(t, 1, clip.Duration().Seconds(), 0.05)
		})
	}
}

// V2: what is no sound is an error, and never noise.
func TestAnswersWithoutSound(t *testing.T) {
	page := "<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>" + strings.Repeat("blocked ", 100) + "</body></html>"
	for name, c := range map[string]struct {
		status     int
		kind, body string
		want       string
		permanent  bool
	}{
		"html as audio":       {200, "audio/mpeg", page, "403 Forbidden", false},
		"html as pcm":         {200, "audio/pcm", page, "403 Forbidden", false},
		"html as basic":       {200, "audio/basic", page, "403 Forbidden", false},
		"json":                {200, "application/json", `{"detail":"ünknown voice"}`, "ünknown voice", false},
		"short text":          {200, "audio/basic", "oops", "oops", false},
		"nothing":             {200, "audio/basic", "", "no sound", false},
		"ogg":                 {200, "audio/ogg", "OggS\x00\x02" + strings.Repeat("\x00\xff", 400), "audio/ogg", false},
		"ogg as octets":       {200, "application/octet-stream", "OggS\x00\x02" + strings.Repeat("\x00\xff", 400), "octet", false},
		"damaged mp3":         {200, "audio/mpeg", strings.Repeat("\x00\x01\x02\xfe", 300), "format", false},
		"video":               {200, "video/mp4", strings.Repeat("\x00\x01\x02\xfe", 300), "video/mp4", false},
		"wrong key":           {401, "application/json", `{"error":"bad key ` + apiKey + `"}`, "401", true},
		"forbidden":           {403, "audio/pcm", page, "403", true},
		"no such voice":       {404, "application/json", `{}`, "404", true},
		"text refused":        {400, "application/json", `{}`, "400", false},
		"too many":            {429, "application/json", `{"detail":"quota"}`, "quota", false},
		"broken":              {500, "text/plain", "", "500", false},
		"nothing to decode":   {204, "audio/pcm", "", "204", false},
		"wav without content": {200, "audio/wav", "RIFF\x24\x00\x00\x00WAVEfmt ", "audio", false},
	} {
		for _, provider := range []string{"openai", "elevenlabs"} {
			t.Run(name+" "+provider, func(t *testing.T) {
				url, _, _ := answer(t, c.status, c.kind, []byte(c.body))
				_, err := service(t, provider, url).Synthesize(t.Context(), tts.Request{Text: "hello"})
				require.ErrorContains(t, err, c.want)
				require.NotContains(t, err.Error(), apiKey)
				require.Less(t, len(err.Error()), 400)
				if c.status != 200 {
					var refused *tts.StatusError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, c.permanent, refused.Permanent())
				}
			})
		}
	}
}

// V3: the connection is cut in the middle of a word.
func TestTruncatedSound(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/pcm")
		_, _ = w.Write(little(sine(24000, 12000)))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	a, err := service(t, "openai", srv.URL).Synthesize(t.Context(), tts.Request{Text: "hello"})
	require.NoError(t, err)
	samples, err := drain(a)
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF)
	require.Equal(t, sine(24000, 12000)[:len(samples)], samples, "what came is played")
	require.NoError(t, a.Close())
}

// V1: no answer, and an answer without sound.
func TestServiceThatHangs(t *testing.T) {
	for name, headers := range map[string]bool{"before the answer": false, "before the sound": true} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if headers {
					w.WriteHeader(http.StatusOK)
					w.(http.Flusher).Flush()
				}
				<-done
			}))
			defer srv.Close()
			defer close(done)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := service(t, "openai", srv.URL).Synthesize(ctx, tts.Request{Text: "hello"})
			require.ErrorIs(t, err, context.DeadlineExceeded)

			b := &voice{name: "b"}
			r := tts.Resilience{First: 50 * time.Millisecond}.Synthesizer(service(t, "elevenlabs", srv.URL), b)
			a, err := r.Synthesize(t.Context(), tts.Request{Text: "hello"})
			require.NoError(t, err)
			require.NoError(t, a.Close())
			require.Len(t, b.said, 1)
		})
	}
}

func TestServiceConfiguration(t *testing.T) {
	for want, c := range map[string]struct {
		name string
		set  func(any)
	}{
		"api_key":     {"openai", func(any) {}},
		"url":         {"openai", func(c any) { c.(*tts.OpenAIConfig).URL = "localhost:8880" }},
		"model":       {"openai", func(c any) { c.(*tts.OpenAIConfig).Model = "" }},
		"voice":       {"elevenlabs", func(c any) { c.(*tts.ElevenLabsConfig).Voice = "" }},
		"format":      {"openai", func(c any) { c.(*tts.OpenAIConfig).Format = "opus" }},
		"sample_rate": {"openai", func(c any) { c.(*tts.OpenAIConfig).SampleRate = 1 }},
		"speed":       {"openai", func(c any) { c.(*tts.OpenAIConfig).Speed = 9 }},
		"local":       {"voiceflow", func(c any) { c.(*tts.VoiceflowConfig).Local = "cloud" }},
	} {
		err := tts.Providers.Check(c.name, func(into any) error { c.set(into); return nil })
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, tts.Providers.Check("openai", func(into any) error {
		into.(*tts.OpenAIConfig).URL = "http://127.0.0.1:8880/v1"
		return nil
	}), "an own server may need no key")
	require.Subset(t, tts.Providers.Names(), []string{"elevenlabs", "espeak", "flite", "openai", "voiceflow"})
}

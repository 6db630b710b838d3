package wire

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFramesAreReadAsWritten(t *testing.T) {
	u := Utterance{ID: 7, Hints: []string{"große Pizza", "no"}, Language: "en-US"}
	b, err := AppendJSON(nil, Begin, 3, u)
	require.NoError(t, err)
	b, err = Append(b, Frame{Kind: Sound, Stream: 3, Payload: []byte{1, 2, 3}})
	require.NoError(t, err)
	b, err = Append(b, Frame{Kind: Close, Stream: 4})
	require.NoError(t, err)

	r := bytes.NewReader(b)
	f, err := Read(r)
	require.NoError(t, err)
	got, err := f.Utterance()
	require.NoError(t, err)
	require.Equal(t, u, got)
	f, err = Read(r)
	require.NoError(t, err)
	require.Equal(t, Frame{Kind: Sound, Stream: 3, Payload: []byte{1, 2, 3}}, f)
	f, err = Read(r)
	require.NoError(t, err)
	require.Equal(t, Frame{Kind: Close, Stream: 4, Payload: []byte{}}, f)
	_, err = Read(r)
	require.ErrorIs(t, err, io.EOF)
}

func TestMalformedFrames(t *testing.T) {
	for _, b := range []string{
		"\x01", "\x09\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x01\x00\x00\x00\x00\x00\x00\x00\x02x", "\x01\x00\x00\x00\x00\xff\xff\xff\xff",
	} {
		_, err := Read(bytes.NewReader([]byte(b)))
		require.ErrorIs(t, err, ErrFrame, "%q", b)
	}
	_, err := Append(nil, Frame{Kind: Sound, Payload: make([]byte, MaxPayload+1)})
	require.ErrorIs(t, err, ErrFrame)
	_, err = Frame{Kind: Begin, Payload: []byte("{")}.Utterance()
	require.ErrorIs(t, err, ErrFrame)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01\x00\x00\x00\x02{}"))
	f.Add([]byte("\x02\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			fr, err := Read(r)
			if err != nil {
				return
			}
			_, _ = fr.Utterance()
			again, err := Append(nil, fr)
			require.NoError(t, err)
			require.True(t, bytes.Contains(b, again))
		}
	})
}

package pcm_test

import (
	"fmt"
	"testing"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// The figures are those of a frame of 20 ms.
const frame = pcm.Rate / 50

func BenchmarkLaw(b *testing.B) {
	coded, sound := make([]byte, frame), make([]int16, frame)
	for i := range sound {
		sound[i] = int16(i * 200)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pcm.Mu.Encode(coded, sound)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pcm.Mu.Decode(sound, coded)
		}
	})
	b.Run("transcode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pcm.Transcode(coded, coded, pcm.Mu, pcm.A)
		}
	})
}

func BenchmarkClipRead(b *testing.B) {
	c := pcm.NewClip(pcm.Mu)
	if err := c.Append(make([]int16, 10*pcm.Rate)); err != nil {
		b.Fatal(err)
	}
	c.Close(nil)
	packet := make([]byte, frame)
	for _, law := range []pcm.Law{pcm.Mu, pcm.A} {
		b.Run(law.String(), func(b *testing.B) {
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				c.Read(at, packet, law)
				at = (at + frame) % (9 * pcm.Rate)
			}
		})
	}
}

func BenchmarkLevel(b *testing.B) {
	sound := make([]int16, frame)
	for b.Loop() {
		pcm.Level(sound)
	}
}

func BenchmarkUpsampleImage(b *testing.B) {
	b.ReportAllocs()
	sound, dst := make([]int16, frame), make([]int16, 2*frame)
	for b.Loop() {
		pcm.UpsampleImage(dst[:0], sound)
	}
}

// endless is sound without an end.
type endless struct{ rate int }

func (e endless) SampleRate() int           { return e.rate }
func (endless) Read(p []int16) (int, error) { return len(p), nil }
func (endless) Close() error                { return nil }

// BenchmarkResample makes 20 ms of telephone sound of what voices deliver.
func BenchmarkResample(b *testing.B) {
	for _, rate := range []int{16000, 22050, 24000, 44100} {
		b.Run(fmt.Sprintf("%d Hz", rate), func(b *testing.B) {
			b.ReportAllocs()
			src, out := pcm.Resample(endless{rate}, pcm.Rate), make([]int16, frame)
			for b.Loop() {
				if _, err := src.Read(out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

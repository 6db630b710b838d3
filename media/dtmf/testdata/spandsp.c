/* Lets spandsp's detector hear clips. Each clip on the standard input is its
   number of samples and the samples, both of 16-bit words in the machine's order
   (the number of 32 bits); each line of the output is what was found in one:
   pairs of the sample at which a key was told, and the key. */
#include <stdint.h>
#include <stdio.h>
#include <spandsp.h>

int main(void)
{
    int32_t total;

    while (fread(&total, sizeof(total), 1, stdin) == 1) {
        dtmf_rx_state_t *rx = dtmf_rx_init(NULL, NULL, NULL);
        int32_t at = 0;

        if (rx == NULL)
            return 1;
        while (at < total) {
            int16_t frame[160];
            char keys[16];
            int n = total - at < 160 ? total - at : 160;

            if (fread(frame, sizeof(frame[0]), n, stdin) != (size_t) n)
                return 1;
            at += n;
            dtmf_rx(rx, frame, n);
            n = (int) dtmf_rx_get(rx, keys, sizeof(keys) - 1);
            for (int i = 0; i < n; i++)
                printf("%d %c ", at, keys[i]);
        }
        printf("\n");
        fflush(stdout);
        dtmf_rx_free(rx);
    }
    return 0;
}

/* The measurements of the active checks. Each prints one line of JSON, and ends with 0; a wrong result is in the line.
 *
 *   bench stream MIB       memory bandwidth by a[i] = b[i] + s * c[i] (McCalpin's triad), over arrays of MIB each
 *   bench disk FILE MIB    what a file of MIB takes to be written through to the disk
 *   bench pair MIB         (MPI, two ranks) bandwidth and latency between two nodes, and a sum of all ranks
 *
 * Built by cc, or with -DWITH_MPI by mpicc. The best of several rounds counts: others share the machine.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_MPI
#include <mpi.h>
#endif

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static int stream(long mib)
{
    size_t count = (size_t)mib * 1024 * 1024 / sizeof(double), i;
    double *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b), *c = malloc(count * sizeof *c);
    double best = 0;
    long wrong = 0;
    if (!a || !b || !c)
        return 3;
    for (i = 0; i < count; i++) {
        a[i] = 0;
        b[i] = (double)(i % 1000);
        c[i] = 2;
    }
    for (int round = 0; round < 10; round++) {
        double begun = now(), took;
        for (i = 0; i < count; i++)
            a[i] = b[i] + 3.0 * c[i];
        took = now() - begun;
        for (i = 0; i < count; i++)
            wrong += a[i] != (double)(i % 1000) + 6.0;
        if (3.0 * count * sizeof(double) / took > best)
            best = 3.0 * count * sizeof(double) / took;
    }
    printf("{\"memory_gb_s\": %.3f, \"wrong\": %ld}\n", best / 1e9, wrong);
    return 0;
}

static int disk(const char *path, long mib)
{
    static char block[1 << 20];
    double best = 0;
    long wrong = 0;
    for (int round = 0; round < 3; round++) {
        int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        double begun = now(), took;
        if (file < 0)
            return 3;
        unlink(path);
        for (long at = 0; at < mib; at++) {
            memset(block, (int)(at * 37 + round) & 255, sizeof block);
            if (write(file, block, sizeof block) != (ssize_t)sizeof block)
                return 3;
        }
        if (fdatasync(file))
            return 3;
        took = now() - begun;
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        for (long at = 0; at < mib; at++) {
            if (pread(file, block, sizeof block, at << 20) != (ssize_t)sizeof block)
                return 3;
            for (size_t i = 0; i < sizeof block; i += 4096)
                wrong += block[i] != (char)((at * 37 + round) & 255);
        }
        close(file);
        if (mib / took > best)
            best = mib / took;
    }
    printf("{\"disk_mb_s\": %.2f, \"wrong\": %ld}\n", best * 1.048576, wrong);
    return 0;
}

#ifdef WITH_MPI
static int pair(long mib)
{
    int rank, size;
    long sum = 0, mine, wrong = 0;
    double best = 0, fastest = 1e9;
    char *buffer = malloc((size_t)mib << 20);
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!buffer || size != 2) {
        if (rank == 0)
            printf("{\"wrong\": 1, \"why\": \"a world of %d ranks\"}\n", size);
        MPI_Finalize();
        return 0;
    }
    mine = 1000 + rank;
    MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    wrong += sum != 2001;
    memset(buffer, rank ? 0 : 0x5a, (size_t)mib << 20);
    for (int round = 0; round < 20; round++) {
        int bytes = round < 10 ? 1 : (int)(mib << 20);
        double begun, took;
        MPI_Barrier(MPI_COMM_WORLD);
        begun = now();
        for (int turn = 0; turn < (bytes == 1 ? 100 : 4); turn++) {
            if (rank == 0) {
                MPI_Send(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
                MPI_Recv(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            } else {
                MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
            }
        }
        took = now() - begun;
        if (bytes == 1 && took / 200 < fastest)
            fastest = took / 200;
        if (bytes > 1 && 8.0 * bytes / took > best)
            best = 8.0 * bytes / took;
    }
    for (long i = 0; i < mib << 20; i += 4096)
        wrong += buffer[i] != 0x5a;
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("{\"network_mb_s\": %.2f, \"latency_us\": %.2f, \"wrong\": %ld}\n", best / 1e6, fastest * 1e6, wrong);
    MPI_Finalize();
    return 0;
}
#endif

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "stream"))
        return stream(atol(words[2]));
    if (count == 4 && !strcmp(words[1], "disk"))
        return disk(words[2], atol(words[3]));
#ifdef WITH_MPI
    if (count == 3 && !strcmp(words[1], "pair"))
        return pair(atol(words[2]));
#endif
    fprintf(stderr, "bench stream MIB | disk FILE MIB | pair MIB\n");
    return 2;
}

// Teams: blocks that work on one problem together and wait for each other.
//
// A block's place comes from a ticket that it takes when it starts, not from its number: the blocks of a team then start one
// after another, and a block that waits, waits for blocks that run. Right wherever as many blocks as a team has are resident
// at a time, in whatever order they start.
#pragma once
#include "common/reduce.cuh"

struct Team {
    unsigned number;   // of the team
    unsigned part;     // of this block in it
    unsigned parts;    // blocks of a team
    unsigned meetings; // that it has been at
    unsigned *arrived; // this team's, zero before the launch; counts on, and may wrap around

    // `tickets` is zero before the launch, `arrived` one per team.
    __device__ __forceinline__ Team(unsigned *tickets, unsigned *arrived, unsigned parts) : parts(parts), meetings(0) {
        __shared__ unsigned ticket;
        if (threadIdx.x == 0 && threadIdx.y == 0) ticket = atomicAdd(tickets, 1u);
        __syncthreads(); // the ticket is there before any thread reads it
        number = ticket / parts;
        part = ticket % parts;
        this->arrived = arrived + number;
    }

    // What any thread of the team wrote before is seen by all of them afterwards.
    __device__ __forceinline__ void meet() {
        __syncthreads(); // the block's writes come before its arrival
        if (parts == 1) return;
        ++meetings;
        if (threadIdx.x == 0 && threadIdx.y == 0) {
            red_release_add(arrived, 1u);
            while ((int)(ld_acquire(arrived) - meetings * parts) < 0) {
            }
        }
        __syncthreads(); // no thread goes on before the team is complete
    }
};

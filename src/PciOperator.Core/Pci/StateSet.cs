using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace PciOperator.Core;

/// <summary>A set of vectors of one length, kept in one array that is used again. Once it is full it takes no more: what it is for must not need it.</summary>
internal sealed class StateSet
{
    // 4 MB.
    private const int MostNumbers = 1 << 21;
    private const int FirstSlots = 1 << 10;

    private short[] states = new short[1 << 12];
    private int[] slots = new int[FirstSlots];
    private int[] hashes = new int[FirstSlots];
    private int width;
    private int count;
    private int mask;

    /// <summary>Empties it, for vectors of another length.</summary>
    public void Clear(int length)
    {
        (width, count, mask) = (length, 0, FirstSlots - 1);
        slots.AsSpan(0, FirstSlots).Clear();
    }

    /// <summary>Whether a vector is in it.</summary>
    public bool Contains(ReadOnlySpan<short> state) => slots[SlotOf(state, HashOf(state))] != 0;

    /// <summary>Adds a vector.</summary>
    public void Add(ReadOnlySpan<short> state)
    {
        if ((count + 1) * width > MostNumbers)
            return;
        int hash = HashOf(state);
        int slot = SlotOf(state, hash);
        if (slots[slot] != 0)
            return;
        if (states.Length < (count + 1) * width)
            Array.Resize(ref states, Math.Max(states.Length * 2, (count + 1) * width));
        if (hashes.Length <= count)
            Array.Resize(ref hashes, hashes.Length * 2);
        state.CopyTo(states.AsSpan(count * width));
        hashes[count] = hash;
        slots[slot] = ++count;
        if (count * 2 > mask)
            Widen();
    }

    private int SlotOf(ReadOnlySpan<short> state, int hash)
    {
        for (int slot = hash & mask; ; slot = (slot + 1) & mask)
        {
            int index = slots[slot] - 1;
            if (index < 0 || (hashes[index] == hash && state.SequenceEqual(states.AsSpan(index * width, width))))
                return slot;
        }
    }

    private void Widen()
    {
        int size = (mask + 1) * 4;
        if (slots.Length < size)
            slots = new int[size];
        else
            slots.AsSpan(0, size).Clear();
        mask = size - 1;
        for (int i = 0; i < count; i++)
        {
            int slot = hashes[i] & mask;
            while (slots[slot] != 0)
                slot = (slot + 1) & mask;
            slots[slot] = i + 1;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int HashOf(ReadOnlySpan<short> state)
    {
        ulong hash = 0x9E3779B97F4A7C15;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<short, ulong>(state);
        foreach (ulong word in words)
            hash = (ulong.RotateLeft(hash, 23) ^ word) * 0xD6E8FEB86659FD93;
        foreach (short rest in state[(words.Length * 4)..])
            hash = (ulong.RotateLeft(hash, 23) ^ (ushort)rest) * 0xD6E8FEB86659FD93;
        return (int)(hash ^ (hash >> 32));
    }
}

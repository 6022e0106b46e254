using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace PciOperator.Core;

/// <summary>
/// A set of vectors of one length, kept in one array that is used again. Once it is full it takes no more: what it is for must not need it.
/// </summary>
internal sealed class StateSet
{
    // 4 MB.
    private const int MostNumbers = 1 << 21;
    private const int FirstSlots = 1 << 10;

    private short[] _states = new short[1 << 12];
    private int[] _slots = new int[FirstSlots];
    private int[] _hashes = new int[FirstSlots];
    private int _width;
    private int _count;
    private int _mask;

    /// <summary>Empties it, for vectors of another length.</summary>
    public void Clear(int length)
    {
        (_width, _count, _mask) = (length, 0, FirstSlots - 1);
        _slots.AsSpan(0, FirstSlots).Clear();
    }

    /// <summary>Whether a vector is in it.</summary>
    public bool Contains(ReadOnlySpan<short> state) => _slots[SlotOf(state, HashOf(state))] != 0;

    /// <summary>Adds a vector.</summary>
    public void Add(ReadOnlySpan<short> state)
    {
        if ((_count + 1) * _width > MostNumbers)
            return;
        int hash = HashOf(state);
        int slot = SlotOf(state, hash);
        if (_slots[slot] != 0)
            return;
        if (_states.Length < (_count + 1) * _width)
            Array.Resize(ref _states, Math.Max(_states.Length * 2, (_count + 1) * _width));
        if (_hashes.Length <= _count)
            Array.Resize(ref _hashes, _hashes.Length * 2);
        state.CopyTo(_states.AsSpan(_count * _width));
        _hashes[_count] = hash;
        _slots[slot] = ++_count;
        if (_count * 2 > _mask)
            Widen();
    }

    private int SlotOf(ReadOnlySpan<short> state, int hash)
    {
        for (int slot = hash & _mask; ; slot = (slot + 1) & _mask)
        {
            int index = _slots[slot] - 1;
            if (index < 0 || (_hashes[index] == hash && state.SequenceEqual(_states.AsSpan(index * _width, _width))))
                return slot;
        }
    }

    private void Widen()
    {
        int size = (_mask + 1) * 4;
        if (_slots.Length < size)
            _slots = new int[size];
        else
            _slots.AsSpan(0, size).Clear();
        _mask = size - 1;
        for (int i = 0; i < _count; i++)
        {
            int slot = _hashes[i] & _mask;
            while (_slots[slot] != 0)
                slot = (slot + 1) & _mask;
            _slots[slot] = i + 1;
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

using System.Buffers;

namespace PciOperator.Kubernetes;

/// <summary>What was read of a response and not yet used, in a pooled array that grows when one value needs it.</summary>
internal sealed class PooledReadBuffer(Stream stream) : IDisposable
{
    private byte[] _bytes = ArrayPool<byte>.Shared.Rent(64 * 1024);
    private int _start;
    private int _end;

    public ReadOnlySpan<byte> Unread => _bytes.AsSpan(_start, _end - _start);

    public int Length => _end - _start;

    public bool Ended { get; private set; }

    public void Consume(int count) => _start += count;

    /// <summary>Reads more; false at the stream's end.</summary>
    public async ValueTask<bool> FillAsync(CancellationToken ct)
    {
        if (_start == _end)
            _start = _end = 0;
        if (_end == _bytes.Length)
            MakeRoom();
        int read = await stream.ReadAsync(_bytes.AsMemory(_end), ct);
        Ended = read == 0;
        _end += read;
        return read > 0;
    }

    /// <summary>Reads until at least this much is there or the stream ends; false when nothing more came.</summary>
    public async ValueTask<bool> FillAtLeastAsync(int length, CancellationToken ct)
    {
        bool any = false;
        while (Length < length && await FillAsync(ct))
            any = true;
        return any;
    }

    private void MakeRoom()
    {
        int length = Length;
        if (_start >= _bytes.Length / 2)
        {
            _bytes.AsSpan(_start, length).CopyTo(_bytes);
        }
        else
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent(checked(_bytes.Length * 2));
            _bytes.AsSpan(_start, length).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_bytes);
            _bytes = larger;
        }

        _start = 0;
        _end = length;
    }

    public void Dispose()
    {
        byte[] bytes = _bytes;
        _bytes = [];
        _start = _end = 0;
        if (bytes.Length > 0)
            ArrayPool<byte>.Shared.Return(bytes);
    }
}

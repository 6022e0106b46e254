namespace PciOperator.Kubelet;

/// <summary>One at a time for each key, in memory only as long as somebody wants it.</summary>
internal sealed class Turns
{
    private readonly Dictionary<string, Turn> _turns = new(StringComparer.Ordinal);

    /// <summary>Waits for the key's turn, and has it until what is returned is disposed.</summary>
    public async Task<IDisposable> TakeAsync(string key, CancellationToken ct)
    {
        Turn turn;
        lock (_turns)
        {
            if (!_turns.TryGetValue(key, out turn!))
                _turns[key] = turn = new Turn();
            turn.Wanted++;
        }

        try
        {
            await turn.Free.WaitAsync(ct);
        }
        catch
        {
            Leave(key, turn, had: false);
            throw;
        }

        return new Taken(() => Leave(key, turn, had: true));
    }

    private void Leave(string key, Turn turn, bool had)
    {
        lock (_turns)
        {
            if (had)
                turn.Free.Release();
            if (--turn.Wanted > 0)
                return;
            _turns.Remove(key);
            turn.Free.Dispose();
        }
    }

    private sealed class Turn
    {
        public SemaphoreSlim Free { get; } = new(1, 1);

        public int Wanted { get; set; }
    }

    private sealed class Taken(Action leave) : IDisposable
    {
        private Action? _leave = leave;

        public void Dispose() => Interlocked.Exchange(ref _leave, null)?.Invoke();
    }
}

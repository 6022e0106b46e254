namespace PciOperator.Kubernetes;

/// <summary>A queue of queues: whoever has something in it comes to its turn, one thing at a time, however much the others have. Within
/// one, first come, first served.</summary>
internal sealed class TurnQueue<TKey>(Func<TKey, string>? turnOf)
{
    private readonly Dictionary<string, Queue<TKey>> _waiting = new(StringComparer.Ordinal);
    private readonly Queue<string> _turns = new();

    public int Count { get; private set; }

    public void Enqueue(TKey key)
    {
        string turn = turnOf?.Invoke(key) ?? "";
        if (!_waiting.TryGetValue(turn, out Queue<TKey>? queue))
        {
            _waiting[turn] = queue = new Queue<TKey>();
            _turns.Enqueue(turn);
        }

        queue.Enqueue(key);
        Count++;
    }

    public TKey Dequeue()
    {
        string turn = _turns.Dequeue();
        Queue<TKey> queue = _waiting[turn];
        TKey? key = queue.Dequeue();
        if (queue.Count > 0)
            _turns.Enqueue(turn);
        else
            _waiting.Remove(turn);
        Count--;
        return key;
    }
}

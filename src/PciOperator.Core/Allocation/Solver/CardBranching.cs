namespace PciOperator.Core;

/// <summary>
/// Branch and bound on <see cref="CardRelaxation"/>: halves the range of a class whose number of PFs is fractional, until the rest is
/// proved empty or an answer is found.
/// </summary>
internal sealed class CardBranching
{
    private const int MostRounded = 6;

    private readonly CardRelaxation _relaxation = new();
    private readonly Stack<int[]> _open = new();
    private readonly Stack<int[]> _spare = new();
    private CardQuestion _question = new();
    private double[] _x = [];
    private int[] _weight = [];

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work => _relaxation.Work;

    /// <summary>Begins with a question.</summary>
    public void Begin(CardQuestion asked)
    {
        _question = asked;
        _question.Prepare();
        _relaxation.Begin(_question);
        int classes = _question.Classes;
        (_x, _weight) = _x.Length == classes ? (_x, _weight) : (new double[classes], new int[classes]);
        for (int k = 0; k < classes; k++)
            _weight[k] = _question.WeightOf(k);
        _open.Clear();
        _spare.Clear();
        int[] all = new int[2 * classes];
        _question.Sizes.CopyTo(all.AsSpan(classes));
        _open.Push(all);
    }

    /// <summary>Goes on until so much work is done in all.</summary>
    /// <param name="limit">How much.</param>
    /// <param name="answer">By class, the number of PFs, when there is an answer.</param>
    /// <returns>Whether there is one; null when that is not known yet.</returns>
    public bool? Run(long limit, Span<int> answer)
    {
        _relaxation.Limit = limit;
        while (_open.Count > 0 && _relaxation.Work < limit)
        {
            // The least numbers of PFs by class, then the most.
            int[] range = _open.Pop();
            ReadOnlySpan<int> low = range.AsSpan(0, _x.Length);
            ReadOnlySpan<int> high = range.AsSpan(_x.Length);
            if (low.SequenceEqual(high))
            {
                low.CopyTo(answer);
                if (_relaxation.Answers(answer))
                    return true;
            }
            else if (_relaxation.Solve(low, high, _x))
            {
                if (Round(low, high, answer))
                    return true;
                Branch(low, high);
            }

            _spare.Push(range);
        }

        return _open.Count == 0 ? false : null;
    }

    // Every way to round the fractional numbers, when they are few.
    private bool Round(ReadOnlySpan<int> low, ReadOnlySpan<int> high, Span<int> answer)
    {
        Span<int> fractional = stackalloc int[MostRounded];
        int count = 0;
        for (int k = 0; k < _x.Length; k++)
        {
            double near = Math.Round(_x[k]);
            answer[k] = (int)Math.Clamp(near, low[k], high[k]);
            if (Math.Abs(_x[k] - near) <= 1e-6)
                continue;
            if (count == MostRounded)
                return false;
            fractional[count++] = k;
        }

        for (int ways = 0; ways < 1 << count && _relaxation.Work < _relaxation.Limit; ways++)
        {
            for (int i = 0; i < count; i++)
            {
                answer[fractional[i]] = (int)
                    Math.Clamp(Math.Floor(_x[fractional[i]]) + (ways >> i & 1), low[fractional[i]], high[fractional[i]]);
            }

            if (_relaxation.Answers(answer))
                return true;
        }

        return false;
    }

    private void Branch(ReadOnlySpan<int> low, ReadOnlySpan<int> high)
    {
        int widest = -1;
        double most = 1e-6;
        for (int k = 0; k < _x.Length; k++)
        {
            double fraction = Math.Min(_x[k] - Math.Floor(_x[k]), Math.Ceiling(_x[k]) - _x[k]);
            if (fraction * _weight[k] > most && low[k] < high[k])
                (widest, most) = (k, fraction * _weight[k]);
        }

        int cut;
        if (widest >= 0)
        {
            cut = (int)Math.Clamp(Math.Floor(_x[widest]), low[widest], high[widest] - 1);
        }
        else
        {
            // Only rounding errors are left: any class that is still open.
            widest = 0;
            for (int k = 0; k < _x.Length; k++)
            {
                if (high[k] - low[k] > high[widest] - low[widest])
                    widest = k;
            }

            cut = (low[widest] + high[widest]) / 2;
        }

        bool upFirst = _x[widest] - cut > 0.5;
        if (upFirst)
            Push(low, high, _x.Length + widest, cut);
        Push(low, high, widest, cut + 1);
        if (!upFirst)
            Push(low, high, _x.Length + widest, cut);
    }

    private void Push(ReadOnlySpan<int> low, ReadOnlySpan<int> high, int at, int value)
    {
        if (!_spare.TryPop(out int[]? range))
            range = new int[2 * _x.Length];
        low.CopyTo(range);
        high.CopyTo(range.AsSpan(_x.Length));
        range[at] = value;
        _open.Push(range);
    }
}

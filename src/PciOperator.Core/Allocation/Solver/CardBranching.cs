namespace PciOperator.Core;

/// <summary>Branch and bound on <see cref="CardRelaxation"/>: halves the range of a class whose number of PFs is fractional, until the rest is proved empty or an answer is found.</summary>
internal sealed class CardBranching
{
    private const int MostRounded = 6;

    private readonly CardRelaxation relaxation = new();
    private readonly Stack<int[]> open = new();
    private readonly Stack<int[]> spare = new();
    private CardQuestion question = new();
    private double[] x = [];
    private int[] weight = [];

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work => relaxation.Work;

    /// <summary>Begins with a question.</summary>
    public void Begin(CardQuestion asked)
    {
        question = asked;
        question.Prepare();
        relaxation.Begin(question);
        int classes = question.Classes;
        (x, weight) = x.Length == classes ? (x, weight) : (new double[classes], new int[classes]);
        for (int k = 0; k < classes; k++)
            weight[k] = question.WeightOf(k);
        open.Clear();
        spare.Clear();
        int[] all = new int[2 * classes];
        question.Sizes.CopyTo(all.AsSpan(classes));
        open.Push(all);
    }

    /// <summary>Goes on until so much work is done in all.</summary>
    /// <param name="limit">How much.</param>
    /// <param name="answer">By class, the number of PFs, when there is an answer.</param>
    /// <returns>Whether there is one; null when that is not known yet.</returns>
    public bool? Run(long limit, Span<int> answer)
    {
        relaxation.Limit = limit;
        while (open.Count > 0 && relaxation.Work < limit)
        {
            // The least numbers of PFs by class, then the most.
            int[] range = open.Pop();
            ReadOnlySpan<int> low = range.AsSpan(0, x.Length);
            ReadOnlySpan<int> high = range.AsSpan(x.Length);
            if (low.SequenceEqual(high))
            {
                low.CopyTo(answer);
                if (relaxation.Answers(answer))
                    return true;
            }
            else if (relaxation.Solve(low, high, x))
            {
                if (Round(low, high, answer))
                    return true;
                Branch(low, high);
            }
            spare.Push(range);
        }
        return open.Count == 0 ? false : null;
    }

    // Every way to round the fractional numbers, when they are few.
    private bool Round(ReadOnlySpan<int> low, ReadOnlySpan<int> high, Span<int> answer)
    {
        Span<int> fractional = stackalloc int[MostRounded];
        int count = 0;
        for (int k = 0; k < x.Length; k++)
        {
            double near = Math.Round(x[k]);
            answer[k] = (int)Math.Clamp(near, low[k], high[k]);
            if (Math.Abs(x[k] - near) <= 1e-6)
                continue;
            if (count == MostRounded)
                return false;
            fractional[count++] = k;
        }
        for (int ways = 0; ways < 1 << count && relaxation.Work < relaxation.Limit; ways++)
        {
            for (int i = 0; i < count; i++)
                answer[fractional[i]] = (int)Math.Clamp(Math.Floor(x[fractional[i]]) + (ways >> i & 1), low[fractional[i]], high[fractional[i]]);
            if (relaxation.Answers(answer))
                return true;
        }
        return false;
    }

    private void Branch(ReadOnlySpan<int> low, ReadOnlySpan<int> high)
    {
        int widest = -1;
        double most = 1e-6;
        for (int k = 0; k < x.Length; k++)
        {
            double fraction = Math.Min(x[k] - Math.Floor(x[k]), Math.Ceiling(x[k]) - x[k]);
            if (fraction * weight[k] > most && low[k] < high[k])
                (widest, most) = (k, fraction * weight[k]);
        }
        int cut;
        if (widest >= 0)
            cut = (int)Math.Clamp(Math.Floor(x[widest]), low[widest], high[widest] - 1);
        else
        {
            // Only rounding errors are left: any class that is still open.
            widest = 0;
            for (int k = 0; k < x.Length; k++)
            {
                if (high[k] - low[k] > high[widest] - low[widest])
                    widest = k;
            }
            cut = (low[widest] + high[widest]) / 2;
        }
        bool upFirst = x[widest] - cut > 0.5;
        if (upFirst)
            Push(low, high, x.Length + widest, cut);
        Push(low, high, widest, cut + 1);
        if (!upFirst)
            Push(low, high, x.Length + widest, cut);
    }

    private void Push(ReadOnlySpan<int> low, ReadOnlySpan<int> high, int at, int value)
    {
        if (!spare.TryPop(out int[]? range))
            range = new int[2 * x.Length];
        low.CopyTo(range);
        high.CopyTo(range.AsSpan(x.Length));
        range[at] = value;
        open.Push(range);
    }
}

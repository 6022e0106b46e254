using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core.Tests;

/// <summary>PF or VFs of each card: against trying all, and on questions built to be hard.</summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
public class CardSearchTests
{
    [Fact]
    [Trait("Cases", "Many")]
    public void Both_searches_agree_with_trying_every_mode_of_every_card()
    {
        int found = 0;
        Parallel.ForEach(
            TestScope.Seeds(20_000, 5),
            seed =>
            {
                var random = new Random(seed);
                int columns = random.Next(2, 5);
                (int Pf, int[] Vfs)[] cards =
                [
                    .. Enumerable
                        .Range(0, random.Next(1, 9))
                        .Select(_ =>
                            (
                                random.Next(1, 1 << columns),
                                Enumerable.Range(0, random.Next(1, 5)).Select(_ => random.Next(1, 1 << columns)).ToArray()
                            )
                        ),
                ];
                int[] demand = Sums([.. Enumerable.Range(0, columns).Select(_ => random.Next(1, 5))]);
                bool expected = Enumerable.Range(0, 1 << cards.Length).Any(modes => Meets(cards, modes, demand));
                if (expected)
                    Interlocked.Increment(ref found);

                (CardSearch search, CardBranching branching) = Searches(cards, demand);
                sbyte[] answer = new sbyte[cards.Length];
                Assert.Equal(expected, search.Run(answer, WorkBounds.Deciding));
                if (expected)
                {
                    Assert.True(
                        Meets(cards, Enumerable.Range(0, cards.Length).Sum(i => answer[i] << i), demand),
                        $"seed {seed}: the answer is none"
                    );
                }

                Assert.Equal(expected, branching.Run(100_000_000, new int[cards.Length]));
            }
        );
        Assert.InRange(found, TestScope.Cases(3000, 5), TestScope.Cases(17_000, 5));
    }

    [Fact]
    public void Hard_questions_within_the_limits_stay_far_below_the_bound()
    {
        var random = new Random(5);
        long most = 0;
        // 4 requests for 16 PFs each, 4 for 16 VFs each, on cards of many kinds: just enough cards, or one too few.
        foreach (int vfs in (ReadOnlySpan<int>)[1, 2, 3, 4])
        {
            foreach (int tooFew in (ReadOnlySpan<int>)[0, 1])
            {
                int count = 64 + ((64 + vfs - 1) / vfs) - tooFew;
                for (int i = 0; i < 4; i++)
                {
                    (int Pf, int[] Vfs)[] cards =
                    [
                        .. Enumerable
                            .Range(0, count)
                            .Select(_ => (random.Next(1, 16), Enumerable.Repeat(random.Next(1, 16) << 4, vfs).ToArray())),
                    ];
                    bool? answer = Steps(cards, Sums([16, 16, 16, 16, 16, 16, 16, 16]), ref most);
                    Assert.NotNull(answer);
                    Assert.False(tooFew == 1 && answer.Value);
                }
            }
        }

        // One request for PFs, seven for VFs of one kind each, with next to nothing to spare in any kind.
        for (int i = 0; i < 60; i++)
        {
            int count = random.Next(10, 28);
            int vfs = random.Next(3, 9);
            (int Pf, int[] Vfs)[] cards =
            [
                .. Enumerable.Range(0, count).Select(_ => (1, Enumerable.Range(0, vfs).Select(_ => 2 << random.Next(7)).ToArray())),
            ];
            int[] left = new int[8];
            left[0] = Math.Min(16, count / 2);
            foreach ((_, int[] given) in cards.Skip(count / 2))
            {
                foreach (int vf in given)
                    left[int.TrailingZeroCount(vf)]++;
            }

            int[] demand = [.. left.Select(n => Math.Clamp(n, 1, 16))];
            if (random.Next(2) == 0)
                demand[random.Next(1, 8)]++;
            bool? answer = Steps(cards, Sums(demand), ref most);
            Assert.NotNull(answer);
        }

        Assert.True(most < WorkBounds.Deciding, $"{most} numbers looked at");
    }

    private static bool? Steps((int Pf, int[] Vfs)[] cards, int[] demand, ref long most)
    {
        (CardSearch search, _) = Searches(cards, demand);
        bool? answer = search.Run(new sbyte[cards.Length], WorkBounds.Deciding);
        most = Math.Max(most, search.Work);
        return answer;
    }

    private static (CardSearch Search, CardBranching Branching) Searches((int Pf, int[] Vfs)[] cards, int[] demand)
    {
        var search = new CardSearch();
        Fill(search.Question);
        var question = new CardQuestion();
        Fill(question);
        var branching = new CardBranching();
        branching.Begin(question);
        return (search, branching);

        void Fill(CardQuestion asked)
        {
            asked.Begin(demand, new int[demand.Length], demand.Length);
            for (int i = 0; i < cards.Length; i++)
                asked.Add(i, Supply([cards[i].Pf], demand.Length), Supply(cards[i].Vfs, demand.Length));
        }
    }

    private static int[] Supply(int[] masks, int sets) => [.. Enumerable.Range(0, sets).Select(set => masks.Count(m => (m & set) != 0))];

    private static int[] Sums(int[] counts) =>
        [.. Enumerable.Range(0, 1 << counts.Length).Select(set => Enumerable.Range(0, counts.Length).Sum(c => (set >> c & 1) * counts[c]))];

    // By matching devices to units one by one.
    private static bool Meets((int Pf, int[] Vfs)[] cards, int modes, int[] demand)
    {
        var devices = new List<int>();
        for (int i = 0; i < cards.Length; i++)
            devices.AddRange((modes >> i & 1) != 0 ? [cards[i].Pf] : cards[i].Vfs);
        var units = new List<int>();
        for (int c = 0; 1 << c < demand.Length; c++)
            units.AddRange(Enumerable.Repeat(c, demand[1 << c]));
        int[] holder = new int[devices.Count];
        Array.Fill(holder, -1);
        return Enumerable.Range(0, units.Count).All(u => Find(u, new bool[devices.Count]));

        bool Find(int unit, bool[] seen)
        {
            for (int d = 0; d < devices.Count; d++)
            {
                if (seen[d] || (devices[d] >> units[unit] & 1) == 0)
                    continue;
                seen[d] = true;
                if (holder[d] < 0 || Find(holder[d], seen))
                {
                    holder[d] = unit;
                    return true;
                }
            }

            return false;
        }
    }
}

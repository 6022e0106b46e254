using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core.Tests;

/// <summary>Within what the resources allow every claim is decided, and with room to spare: families of hosts built to be hard, and a climb from each to harder ones.</summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
public class WorstCaseTests(Xunit.Abstractions.ITestOutputHelper output)
{
    /// <summary>What docs/nova.md states: a 64th of where the search gives up.</summary>
    private const long StatedBound = CardSearch.MostSteps / 64;

    private const int Seeds = 2;
    private const int Climbs = 5;

    [Fact]
    public void Nothing_within_the_limits_is_too_complex()
    {
        long worst = 0;
        int served = 0;
        int refused = 0;
        int searched = 0;
        string worstAt = "";
        object gate = new();
        Parallel.For(0, 32 * Seeds, i =>
        {
            (int family, int seed) = (i % 32, i / 32);
            var random = new Random(i);
            HardHosts host = HardHosts.Of(family, seed);
            long steps = -1;
            for (int climb = 0; climb <= Climbs; climb++)
            {
                HardHosts next = climb == 0 ? host : host.Mutate(random);
                Scratch.Mine.MostCardSteps = 0;
                Scratch.Mine.CardSteps = 0;
                NodeVerdict verdict = Allocator.TryNode(next.Node(), next.Claim());
                long taken = Scratch.Mine.MostCardSteps;
                Assert.False(verdict is NodeVerdict.TooComplex, $"family {family}, seed {seed}, change {climb}: too complex");
                lock (gate)
                {
                    _ = verdict is NodeVerdict.Served ? served++ : refused++;
                    searched += taken > 0 ? 1 : 0;
                    if (taken > worst)
                        (worst, worstAt) = (taken, $"family {family}, seed {seed}, change {climb}");
                }
                // Towards hosts that take more over all their looks: that changes with less than what one search takes.
                if (Scratch.Mine.CardSteps >= steps)
                    (host, steps) = (next, Scratch.Mine.CardSteps);
            }
        });
        string measured = $"{served} served, {refused} refused, {searched} searched; at most {worst} steps ({worstAt})";
        output.WriteLine(measured);
        Assert.True(worst < StatedBound, measured);
        Assert.True(served > 100 && refused > 50 && searched > 150, measured);
    }
}

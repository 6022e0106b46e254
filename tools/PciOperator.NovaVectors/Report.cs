namespace PciOperator.NovaVectors;

/// <summary>One disagreement about a line.</summary>
/// <param name="What">The part of the answer.</param>
/// <param name="Nova">Nova's (or the yardstick's).</param>
/// <param name="Ours">Ours.</param>
/// <param name="Why">Why they disagree: the deviation's reason, or what should have been.</param>
/// <param name="Rule">The deviation that accepts it; null: none does.</param>
public sealed record Disagreement(string What, string Nova, string Ours, string Why, string? Rule);

/// <summary>What came of one line.</summary>
public sealed class LineResult(string id)
{
    private readonly List<Disagreement> _disagreements = [];

    public string Id { get; } = id;

    public IReadOnlyList<Disagreement> Disagreements => _disagreements;

    /// <summary>Fields that are not known here, and what they belong to: they were not looked at.</summary>
    public ISet<string> Ignored { get; } = new SortedSet<string>(StringComparer.Ordinal);

    /// <summary>Whether Placement's providers, or NUMA nodes that had to be found for the guest, played a part.</summary>
    public bool Placed { get; set; }

    public bool Failed => _disagreements.Exists(d => d.Rule is null);

    public bool Deviated => _disagreements.Count > 0 && !Failed;

    /// <summary>Whether the yardstick has the line.</summary>
    public bool Exact { get; set; }

    /// <summary>A disagreement that nothing accepts.</summary>
    public void Fail(string what, string nova, string ours, string why) =>
        _disagreements.Add(new Disagreement(what, nova, ours, why, null));

    /// <summary>A disagreement that a rule may accept.</summary>
    public void Differ(Difference difference)
    {
        var rule = Deviation.For(difference);
        _disagreements.Add(
            new Disagreement(
                difference.What,
                difference.Nova,
                difference.Ours,
                rule?.Reason ?? "no deviation rule accepts this",
                rule?.Name
            )
        );
    }
}

/// <summary>The sum over all lines.</summary>
public sealed class Report(int cases, int exact, int sequences)
{
    private readonly List<LineResult> _results = [];
    private readonly List<(string Where, string Fault)> _strays = [];

    public int Passed => _results.Count(r => r.Disagreements.Count == 0);

    public int Failed => _results.Count(r => r.Failed) + _strays.Count;

    public int Deviated => _results.Count(r => r.Deviated);

    /// <summary>Lines of the yardstick that deviate; none may.</summary>
    public int ExactDeviated => _results.Count(r => r.Exact && r.Deviated);

    /// <summary>How many lines each rule accepted.</summary>
    public IReadOnlyDictionary<string, int> ByRule =>
        _results
            .Where(r => r.Deviated)
            .SelectMany(r => r.Disagreements.Select(d => d.Rule!).Distinct())
            .GroupBy(r => r)
            .ToDictionary(g => g.Key, g => g.Count());

    /// <summary>Lines with providers of Nova's Placement, or with a guest whose NUMA nodes had to be found.</summary>
    public int Placed => _results.Count(r => r.Placed);

    public IReadOnlyList<LineResult> Results => _results;

    public void Add(LineResult result) => _results.Add(result);

    /// <summary>All lines that count: cases, sequences, and lines of answers that belong to none of them.</summary>
    public int Lines => _results.Count + _strays.Count;

    /// <summary>A line of answers or of the yardstick that belongs to no case: it fails.</summary>
    public void Stray(string where, string fault) => _strays.Add((where, fault));

    public void Print(TextWriter output)
    {
        foreach (LineResult result in _results)
        {
            foreach (Disagreement d in result.Disagreements)
            {
                output.WriteLine(
                    $"{(d.Rule is null ? "FAILED  " : "deviated")} {result.Id}: {d.What}{(d.Rule is null ? "" : $" [{d.Rule}]")}"
                );
                output.WriteLine($"    Nova: {d.Nova}");
                output.WriteLine($"    ours: {d.Ours}");
                output.WriteLine($"    why:  {d.Why}");
            }
        }

        foreach ((string where, string fault) in _strays)
            output.WriteLine($"FAILED   {where}: {fault}");
        output.WriteLine();
        foreach ((string rule, int lines) in ByRule.OrderByDescending(p => p.Value).ThenBy(p => p.Key, StringComparer.Ordinal))
            output.WriteLine($"{lines, 6} {rule}");
        foreach (
            IGrouping<string, string> field in _results
                .SelectMany(r => r.Ignored)
                .GroupBy(f => f)
                .OrderBy(f => f.Key, StringComparer.Ordinal)
        )
        {
            output.WriteLine($"NOT LOOKED AT, {field.Count()} {(field.Count() == 1 ? "line" : "lines")}: {field.Key} is not known here");
        }

        output.WriteLine(
            $"read {cases} cases ({exact} in exact.jsonl, of which {ExactDeviated} deviated; {Placed} with rp_uuids or instance_numa_nodes) and {sequences} sequences{(_strays.Count == 0 ? "" : $", and {_strays.Count} lines that belong to none")}: {Lines} lines"
        );
        output.WriteLine($"{Passed} passed, {Failed} failed, {Deviated} deviated");
    }
}

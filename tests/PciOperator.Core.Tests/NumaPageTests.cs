using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>docs/numa-and-groups.md: its table is what the allocator answers for its host. PCI_GOLDEN=1 writes it.</summary>
public class NumaPageTests
{
    private const string Begin = "<!-- numa -->\n";
    private const string End = "<!-- end of numa -->";

    private static readonly string Letters = "ABCDE";

    private static readonly NodeInventory Host = NodeInventory.Build(
        "n",
        [.. new int?[] { 0, 0, 1, 2, null }.Select((numa, i) => Device($"0000:{i + 1:x2}:00.0", numa: numa))],
        new Dictionary<int, int?>
        {
            [0] = 0,
            [1] = 0,
            [2] = 1,
            [3] = 1,
        }
    );

    private static readonly (int Count, string Says, GuestNuma Guest)[] Asked =
    [
        (1, "`numaNodes: [1]`", GuestNuma.On(1)),
        (2, "`numaNodes: [1]`", GuestNuma.On(1)),
        (1, "`numaNodes: [3]`", GuestNuma.On(3)),
        (3, "`numaNodes: [0, 1]`", GuestNuma.On(0, 1)),
        (2, "nothing", GuestNuma.Unknown),
        (3, "nothing", GuestNuma.Unknown),
        (4, "nothing", GuestNuma.Unknown),
        (5, "`guestNuma: none`", GuestNuma.None),
    ];

    [Fact]
    public async Task Its_table_is_what_the_allocator_answers()
    {
        NumaPolicy[] policies = [NumaPolicy.Required, NumaPolicy.Socket, NumaPolicy.Preferred, NumaPolicy.Legacy];
        var table = new StringBuilder(
            "| devices | the claim says | `required` | `socket` | `preferred` | `legacy` |\n|---|---|---|---|---|---|\n"
        );
        foreach ((int count, string says, GuestNuma guest) in Asked)
        {
            IEnumerable<string> answers = policies.Select(p => Answer(Claim((Alias("a1", policy: p), count)) with { GuestNuma = guest }));
            table.Append(CultureInfo.InvariantCulture, $"| {count} | {says} | {string.Join(" | ", answers)} |\n");
        }

        string page = Page();
        string text = await File.ReadAllTextAsync(page);
        int from = text.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length,
            to = text.IndexOf(End, StringComparison.Ordinal);
        if (Environment.GetEnvironmentVariable("PCI_GOLDEN") == "1")
            await File.WriteAllTextAsync(page, text[..from] + table + text[to..]);
        else
            Assert.Equal(table.ToString(), text[from..to]);
    }

    private static string Answer(ClaimRequirements claim) =>
        Allocator.TryNode(Host, claim) switch
        {
            NodeVerdict.Served { Allocation: var given } => string.Join(' ', given.Devices.Select(d => Letters[d.Address.Bus - 1]).Order())
                + (given.NumaPreferenceMet == false ? ", not met" : ""),
            _ => "-",
        };

    private static string Page([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "..", "..", "docs", "numa-and-groups.md"));
}

using System.Globalization;
using System.IO.Compression;
using System.Numerics;
using System.Text.Json;

namespace PciOperator.Core.Tests;

/// <summary>
/// Nova's addresses are regular expressions of Python's: what Python's own re answers to each of them, for every bus
/// (PythonExpressions/generate.py).
/// </summary>
public class PythonExpressionTests
{
    [Fact]
    public void Every_expression_matches_what_Python_matches_or_is_none_as_in_Python()
    {
        using var lines = new StreamReader(
            new GZipStream(
                File.OpenRead(Path.Combine(AppContext.BaseDirectory, "PythonExpressions", "expressions.jsonl.gz")),
                CompressionMode.Decompress
            )
        );
        var different = new List<string>();
        int good = 0,
            bad = 0;
        foreach (string line in TestScope.Share(lines.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries), 4))
        {
            using var json = JsonDocument.Parse(line);
            string expression = json.RootElement.GetProperty("expression").GetString()!;
            string? theirs = json.RootElement.GetProperty("matches").GetString();
            string? ours = Matches(expression);
            if (theirs != ours)
                different.Add($"{line}: {ours ?? "none"}");
            _ = theirs is null ? bad++ : good++;
        }

        Assert.True(different.Count == 0, $"{different.Count} differ:\n{string.Join('\n', different.Take(40))}");
        Assert.True(
            good > TestScope.Cases(500, 4) && bad > TestScope.Cases(500, 4),
            $"{good} expressions and {bad} that are none: too few to say anything"
        );
    }

    [Theory]
    [InlineData("[8", "a set of characters doesn't end")]
    [InlineData("(?<=0|11)0", "a look-behind can match texts of different lengths")]
    [InlineData("8(?i)", "flags for all of the expression are not at its start")]
    [InlineData(@"\N{DIGIT ZERO}", @"\u and its number")]
    public void What_is_no_expression_is_refused_with_what_is_wrong_in_it(string expression, string says)
    {
        string message = Assert.Throws<SpecFormatException>(() => AddressPattern.Parse(new AddressPatternFields(Bus: expression))).Message;
        Assert.Contains(says, message, StringComparison.Ordinal);
        Assert.Contains("for example 8[1-3]", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_long_list_of_buses_is_an_expression()
    {
        string all = string.Join('|', Enumerable.Range(0, 113).Select(bus => bus.ToString("x2", CultureInfo.InvariantCulture)));
        var pattern = AddressPattern.Parse(new AddressPatternFields(Bus: all));
        Assert.True(pattern.Matches(new PciAddress(0, 112, 0, 0)));
        Assert.False(pattern.Matches(new PciAddress(0, 113, 0, 0)));
    }

    /// <summary>A hexadecimal number whose bits are the buses that match; null: not an expression.</summary>
    private static string? Matches(string expression)
    {
        try
        {
            var pattern = AddressPattern.Parse(new AddressPatternFields(Bus: expression));
            BigInteger bits = BigInteger.Zero;
            for (int bus = 0; bus < 256; bus++)
            {
                if (pattern.Matches(new PciAddress(0, bus, 0, 0)))
                    bits |= BigInteger.One << bus;
            }

            string text = bits.ToString("x", CultureInfo.InvariantCulture).TrimStart('0');
            return text.Length == 0 ? "0" : text;
        }
        catch (SpecFormatException)
        {
            return null;
        }
    }
}

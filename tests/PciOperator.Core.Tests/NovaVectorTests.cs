using System.Text.RegularExpressions;
using PciOperator.NovaVectors;

namespace PciOperator.Core.Tests;

/// <summary>Nova's own answers to 1,000 hosts and 300 sequences, which travel with the tests.</summary>
public class NovaVectorTests
{
    private static readonly Report Answers = VectorSet.Read(Path.Combine(AppContext.BaseDirectory, "NovaVectors")).Check();

    [Fact]
    public void No_line_fails_and_no_line_of_the_yardstick_deviates()
    {
        using var text = new StringWriter();
        Answers.Print(text);
        Assert.True(Answers.Failed == 0 && Answers.ExactDeviated == 0, text.ToString());
        Assert.Equal(1300, Answers.Results.Count);
        Assert.Equal(1300, Answers.Passed + Answers.Deviated);
        Assert.Equal(626, Answers.Results.Count(r => r.Exact));
    }

    [Fact]
    public void The_documented_table_of_deviations_is_the_measured_one()
    {
        string doc = File.ReadAllText(DocPath());
        var documented = Regex
            .Matches(doc, @"^\| `([a-z-]+)` \| (\d+) \|", RegexOptions.Multiline)
            .ToDictionary(m => m.Groups[1].Value, m => int.Parse(m.Groups[2].Value));
        Assert.Equal(Deviation.All.Select(d => d.Name).Order(), documented.Keys.Order());
        Assert.All(documented, d => Assert.Equal(Answers.ByRule.GetValueOrDefault(d.Key), d.Value));
    }

    [Fact]
    public void Odd_texts_and_sequences_in_which_Nova_loses_track_are_answered_as_well()
    {
        Report odd = VectorSet.Read(Path.Combine(AppContext.BaseDirectory, "NovaOddities")).Check();
        using var text = new StringWriter();
        odd.Print(text);
        Assert.True(odd.Failed == 0, text.ToString());
        Assert.Equal(35, odd.Results.Count);
    }

    private static string DocPath()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            string path = Path.Combine(folder, "docs", "nova.md");
            if (File.Exists(path))
                return path;
        }

        throw new FileNotFoundException("docs/nova.md is in no folder above the tests.");
    }
}

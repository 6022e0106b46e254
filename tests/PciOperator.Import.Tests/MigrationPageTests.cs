using System.Text;

namespace PciOperator.Import.Tests;

/// <summary>The examples of docs/migration.md, run: a block with a file's name is that file, <c>console</c> the command, <c>yaml</c> what it prints.</summary>
public class MigrationPageTests
{
    private const string Mark = "<!-- example -->";
    private const string Prompt = "$ kubectl pci import ";

    [Fact]
    public async Task Every_example_prints_what_the_page_says()
    {
        string path = PagePath();
        string[] parts = (await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken)).Split(Mark);
        Assert.True(parts.Length > 4);
        var page = new StringBuilder(parts[0]);
        foreach (string part in parts[1..])
        {
            var blocks = Blocks(part).ToList();
            var files = blocks.Where(b => b.File is not null).ToDictionary(b => b.File!, b => b.Text);
            string command = blocks.Single(b => b.Kind == "console").Text.Trim();
            Assert.StartsWith(Prompt, command, StringComparison.Ordinal);
            (int code, string output, string error) = await GoldenCase.RunAsync(
                name => Encoding.UTF8.GetBytes(files[name]),
                command[Prompt.Length..].Split(' ')
            );
            Assert.Equal("", error);
            Assert.Equal(0, code);
            Block printed = blocks.First(b => b is { Kind: "yaml", File: null });
            page.Append(Mark).Append(part[..printed.Start]).Append(output).Append(part[printed.End..]);
        }

        if (Environment.GetEnvironmentVariable("PCI_TEST_GOLDEN") is { Length: > 0 })
            await File.WriteAllTextAsync(path, page.ToString(), TestContext.Current.CancellationToken);
        else
            Assert.Equal(await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken), page.ToString());
    }

    private static IEnumerable<Block> Blocks(string text)
    {
        for (int at = text.IndexOf("\n```", StringComparison.Ordinal); at >= 0; )
        {
            int line = text.IndexOf('\n', at + 1);
            string[] info = text[(at + 4)..line].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            int end = text.IndexOf("```", line, StringComparison.Ordinal);
            yield return new Block(info.FirstOrDefault() ?? "", info.ElementAtOrDefault(1), line + 1, end, text[(line + 1)..end]);
            at = text.IndexOf("\n```", end + 3, StringComparison.Ordinal);
        }
    }

    private static string PagePath()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            string path = Path.Combine(folder, "docs", "migration.md");
            if (File.Exists(path))
                return path;
        }

        throw new FileNotFoundException("docs/migration.md is in no folder above the tests.");
    }

    private sealed record Block(string Kind, string? File, int Start, int End, string Text);
}

using System.Text;

namespace PciOperator.Cli.Tests;

/// <summary>The examples of docs/kubectl-pci.md are run, and say what is written there. PCI_GOLDEN=1 writes it.</summary>
public sealed class DocsTests(SandboxLab lab)
{
    private const string Prompt = "$ kubectl pci ";

    [Fact]
    public async Task Every_example_says_what_the_page_says()
    {
        string path = Path.Combine(SandboxLab.Repository(), "docs", "kubectl-pci.md");
        string page = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        var run = new StringBuilder();
        bool inside = false;
        int examples = 0;
        foreach (string line in page.TrimEnd('\n').Split('\n'))
        {
            if (!inside || line == "```")
                run.Append(line).Append('\n');
            inside = inside ? line != "```" : line == "```console";
            if (!inside || !line.StartsWith(Prompt, StringComparison.Ordinal))
                continue;
            examples++;
            Said said = await lab.PipedAsync(line[Prompt.Length..].Split(' '));
            Assert.True(said.Code is ExitCodes.Ok or ExitCodes.No, said.Error);
            run.Append(line).Append('\n').Append(said.Out).Append(said.Error);
        }

        Assert.True(examples > 10);
        if (Environment.GetEnvironmentVariable("PCI_GOLDEN") == "1")
            await File.WriteAllTextAsync(path, run.ToString(), TestContext.Current.CancellationToken);
        else
            Assert.Equal(page, run.ToString());
    }

    [Fact]
    public async Task Every_command_is_on_the_page()
    {
        string page = await File.ReadAllTextAsync(
            Path.Combine(SandboxLab.Repository(), "docs", "kubectl-pci.md"),
            TestContext.Current.CancellationToken
        );
        using var io = new CliIo { Out = TextWriter.Null, Error = TextWriter.Null };
        foreach (System.CommandLine.Command command in Commands.CommandTree.Build(io).Subcommands.Where(c => !c.Hidden))
            Assert.Contains(command.Name, page, StringComparison.Ordinal);
    }
}

using System.CommandLine;
using PciOperator.Cli.Output;

namespace PciOperator.Cli.Commands;

/// <summary>Completion: kubectl asks a program <c>kubectl_complete-pci</c> in the PATH, by Cobra's protocol.</summary>
internal static class CompletionCommands
{
    private const string Script = """
        #!/bin/sh
        # kubectl runs this for "kubectl pci <TAB>": save it as kubectl_complete-pci in a folder of your PATH, and make it executable.
        exec kubectl-pci __complete "$@"
        """;

    // What follows the candidates in Cobra's protocol: no file names.
    private const string NoFiles = ":4";

    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell)
    {
        var completion = new Command("completion", "Print the script by which kubectl completes 'kubectl pci'.");
        completion.SetAction(_ => shell.Io.Out.WriteLine(Script));

        var words = new Argument<string[]>("words") { Arity = ArgumentArity.ZeroOrMore };
        var complete = new Command("__complete", "Print what may stand in the last place of a command line.")
        {
            Hidden = true,
            TreatUnmatchedTokensAsErrors = false,
        };
        complete.Arguments.Add(words);
        complete.SetAction(parsed => Complete(shell.Io, [.. parsed.GetValue(words) ?? [], .. parsed.UnmatchedTokens]));
        return [completion, complete];
    }

    private static void Complete(CliIo io, IReadOnlyList<string> words)
    {
        foreach (string candidate in Candidates(io, words))
            io.Out.WriteLine(Plain.Text(candidate));
        io.Out.WriteLine(NoFiles);
    }

    private static IEnumerable<string> Candidates(CliIo io, IReadOnlyList<string> words)
    {
        string last = words.Count == 0 ? "" : words[^1];
        string line = string.Join(' ', words.Select(w => w.Contains(' ', StringComparison.Ordinal) ? $"\"{w}\"" : w));
        ParseResult parsed = CommandTree.Build(io).Parse(line);
        return parsed
            .GetCompletions(line.Length)
            .Select(c => c.Label)
            .Where(c => c.StartsWith(last, StringComparison.Ordinal) && (last.StartsWith('-') || !c.StartsWith('-')))
            .Distinct()
            .Order(StringComparer.Ordinal);
    }
}

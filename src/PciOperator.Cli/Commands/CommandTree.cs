using System.CommandLine;
using System.CommandLine.Parsing;
using PciOperator.Cli.Ask;
using PciOperator.Cli.Diagnose;
using PciOperator.Cli.Do;
using PciOperator.Cli.Import;
using PciOperator.Cli.See;
using PciOperator.Cli.Ui;

namespace PciOperator.Cli.Commands;

/// <summary>All commands. A group of commands is added in <see cref="Groups"/>, and nowhere else.</summary>
internal static class CommandTree
{
    /// <summary>The commands of this program, bound to what surrounds it.</summary>
    public static RootCommand Build(CliIo io)
    {
        var shell = new Shell(io);
        var root = new RootCommand("PCI devices of a cluster, and the claims that hold them: see, ask, do.");
        foreach (Option option in shell.Options.All)
            root.Options.Add(option);
        foreach (Command command in Groups(shell))
            root.Subcommands.Add(command);
        return root;
    }

    /// <summary>What a person types to get to the command that was parsed.</summary>
    public static string NameOf(ParseResult parsed)
    {
        var words = new List<string>();
        for (SymbolResult? at = parsed.CommandResult; at is CommandResult { Command: not RootCommand } command; at = at.Parent)
            words.Insert(0, command.Command.Name);
        return string.Join(' ', ["kubectl pci", .. words]);
    }

    private static IEnumerable<Command> Groups(Shell shell) =>
        [
            .. SeeCommands.All(shell),
            .. AskCommands.All(shell),
            .. DiagnoseCommands.All(shell),
            .. DoCommands.All(shell),
            .. UiCommands.All(shell),
            .. ImportCommands.All(shell.Io),
            .. CompletionCommands.All(shell),
        ];
}

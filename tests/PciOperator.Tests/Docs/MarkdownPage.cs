using System.Text.RegularExpressions;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>A page, or a part of one, as somebody reads it who does what it says.</summary>
internal sealed partial class MarkdownPage
{
    private MarkdownPage(IReadOnlyList<Block> blocks, string text) => (Blocks, Text) = (blocks, text);

    /// <summary>The code blocks and, of the prose between them, the code spans, in order.</summary>
    public IReadOnlyList<Block> Blocks { get; }

    /// <summary>All of it.</summary>
    public string Text { get; }

    /// <summary>Reads a page of the checkout.</summary>
    /// <param name="path">Its path, from the checkout's top folder.</param>
    /// <param name="from">The heading that the part begins with; null: the page's beginning.</param>
    /// <param name="to">The heading that comes after it; null: none does.</param>
    public static MarkdownPage Read(string path, string? from = null, string? to = null)
    {
        string text = File.ReadAllText(Path.Combine(Kubectl.Repository, path));
        int begin = from is null ? 0 : text.IndexOf($"\n{from}\n", StringComparison.Ordinal);
        int end = to is null ? text.Length : text.IndexOf($"\n{to}\n", StringComparison.Ordinal);
        Assert.True(begin >= 0 && end > begin, $"{path} has no part from '{from}' to '{to}'.");
        return Parse(text[begin..end]);
    }

    /// <summary>The contents of the fenced blocks of a language.</summary>
    public IEnumerable<string> Fenced(string language) => Blocks.Where(b => b.Kind == language).Select(b => b.Text);

    private static MarkdownPage Parse(string text)
    {
        var blocks = new List<Block>();
        List<string>? code = null;
        string kind = "";
        int indent = 0;
        bool fenced = false,
            blank = true;
        string named = "";
        foreach (string line in text.Split('\n').Append(""))
        {
            if (code is not null && fenced)
            {
                if (line.Trim() == "```")
                    End();
                else
                    code.Add(line.Length >= indent ? line[indent..] : line.TrimStart());
                continue;
            }

            if (code is not null)
            {
                if (line.Length > indent && line[..indent].Trim().Length == 0)
                {
                    code.Add(line[indent..]);
                    continue;
                }

                End();
            }

            if (Fence().Match(line) is { Success: true } fence)
            {
                (code, kind, indent, fenced) = ([], fence.Groups["language"].Value, fence.Groups["indent"].Length, true);
                continue;
            }

            // Below a list's item an indented block has seven blanks, elsewhere four; a paragraph of an item has three.
            int blanks = line.Length - line.TrimStart().Length;
            if (blank && blanks >= 4 && blanks < line.Length)
            {
                (code, kind, indent, fenced) = ([line[blanks..]], "", blanks, false);
                continue;
            }

            blank = line.Trim().Length == 0;
            foreach (Match span in Span().Matches(line))
            {
                blocks.Add(new Block(Block.Span, span.Groups[1].Value, ""));
                if (FileName().IsMatch(span.Groups[1].Value))
                    named = span.Groups[1].Value;
            }
        }

        return new MarkdownPage(blocks, text);

        void End()
        {
            blocks.Add(new Block(kind, string.Join('\n', code!) + "\n", named));
            (code, blank) = (null, true);
        }
    }

    [GeneratedRegex("^(?<indent> *)```(?<language>[a-z]*)$")]
    private static partial Regex Fence();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Span();

    [GeneratedRegex(@"^[\w./-]+\.(yaml|md|lua)$")]
    private static partial Regex FileName();
}

/// <summary>Something on a page that is to be typed.</summary>
/// <param name="Kind">A fenced block's language; nothing: a block of commands; <see cref="Span"/>: code in prose.</param>
/// <param name="Text">What it says.</param>
/// <param name="Named">The file that was named last before it.</param>
internal sealed record Block(string Kind, string Text, string Named)
{
    public const string Span = "span";

    /// <summary>The commands of a block, each in one piece, with what it was continued by.</summary>
    public IEnumerable<string> Commands()
    {
        string pending = "";
        string? end = null;
        foreach (string line in Text.Split('\n'))
        {
            pending += line;
            // A here-document ends with its word.
            if (end is null && line.IndexOf("<<'", StringComparison.Ordinal) is >= 0 and int at)
                end = line[(at + 3)..].Split('\'')[0];
            else if (end == line)
                end = null;
            if (end is not null || line.EndsWith('\\'))
            {
                pending += "\n";
                continue;
            }

            if (pending.Trim().Length > 0)
                yield return pending;
            pending = "";
        }
    }
}

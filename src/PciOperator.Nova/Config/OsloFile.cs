using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>One <c>key = value</c> of a configuration file.</summary>
/// <param name="File">The file's name.</param>
/// <param name="Line">The line of the key, from 1.</param>
/// <param name="Group">The group as it is written, <c>[PCI]</c> without the brackets.</param>
/// <param name="Key">The key, exactly as written: oslo.config knows no other case and no other dashes.</param>
/// <param name="Value">The value, its continuation lines joined by line breaks; nothing in it is substituted yet.</param>
/// <param name="EndsAtKey">
/// The next line that is not blank, where it isn't indented: of a JSON text that ends too early it is the rest. Null at the file's end.
/// </param>
public sealed record OsloAssignment(string File, int Line, string Group, string Key, string Value, string? EndsAtKey)
{
    /// <summary>The group as oslo.config looks for it: without case, but for <c>DEFAULT</c>.</summary>
    public string NormalGroup => Group == OsloFile.DefaultGroup ? Group : Group.ToLowerInvariant();
}

/// <summary>A line for which oslo.config refuses the whole file.</summary>
/// <param name="File">The file's name.</param>
/// <param name="Line">The line, from 1.</param>
/// <param name="Message">What is wrong and what would be right.</param>
public sealed record OsloError(string File, int Line, string Message);

/// <summary>
/// One file as oslo.config's parser reads it: a value goes on in the lines that begin with a blank, until an empty line; a comment begins in
/// the first column; quotes around the first line of a value, if they are a pair, go; <c>:</c> is as good as <c>=</c>. Where oslo.config
/// gives up, this notes it and goes on.
/// </summary>
public sealed class OsloFile
{
    /// <summary>The group without a name.</summary>
    public const string DefaultGroup = "DEFAULT";

    private readonly List<OsloAssignment> _assignments = [];
    private readonly List<OsloError> _errors = [];
    private readonly string _name;
    private string? _group;
    private string? _key;
    private int _keyLine;
    private readonly List<string> _value = [];

    private OsloFile(string name) => _name = name;

    /// <summary>What it sets, in order.</summary>
    public IReadOnlyList<OsloAssignment> Assignments => _assignments;

    /// <summary>Why oslo.config doesn't take it.</summary>
    public IReadOnlyList<OsloError> Errors => _errors;

    /// <summary>Parses a file.</summary>
    /// <param name="name">Its name, for messages.</param>
    /// <param name="text">Its text.</param>
    public static OsloFile Parse(string name, string text)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(text);
        var file = new OsloFile(name);
        if (text.StartsWith('\uFEFF'))
        {
            file.Refuse(1, "the file begins with a byte order mark, which oslo.config doesn't take: save it as UTF-8 without one");
            text = text[1..];
        }

        // Lines as Python's text files have them.
        string[] lines = text.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n').Split('\n');
        for (int i = 0; i < lines.Length; i++)
            file.Take(i + 1, Text.StripEnd(lines[i]).ToString());
        file.Flush(null);
        return file;
    }

    private void Take(int number, string line)
    {
        if (line.Length == 0)
        {
            Flush("");
            return;
        }

        if (line[0] is ' ' or '\t')
        {
            if (_key is null)
                Refuse(number, $"'{Text.Shorten(line)}' begins with a blank and continues nothing: begin it in the first column");
            else
                _value.Add(Text.Strip(line).ToString());
            return;
        }

        Flush(line);
        if (line[0] == '[')
            BeginGroup(number, line);
        else if (line[0] is not ('#' or ';'))
            BeginValue(number, line);
    }

    private void BeginGroup(int number, string line)
    {
        int end = line.EndsWith(']') ? line.Length - 1 : line.IndexOf(']', StringComparison.Ordinal);
        if (!line.EndsWith(']'))
            Refuse(number, $"'{Text.Shorten(line)}' is no group: nothing may follow the ']', no comment either");
        if (end < 0)
            end = line.Length;
        if (end < 2)
        {
            Refuse(number, "a group needs a name: [pci]");
            return;
        }

        _group = line[1..end];
    }

    private void BeginValue(int number, string line)
    {
        int colon = line.IndexOf(':', StringComparison.Ordinal);
        int equal = line.IndexOf('=', StringComparison.Ordinal);
        int at = colon < 0 || (equal >= 0 && equal < colon) ? equal : colon;
        if (at < 0)
        {
            Refuse(
                number,
                $"'{Text.Shorten(line)}' is no 'key = value', no [group] and no comment; a value goes on in lines that begin with a blank"
            );
            return;
        }

        string key = Text.Strip(line.AsSpan(0, at)).ToString();
        if (key.Length == 0)
        {
            Refuse(number, $"'{Text.Shorten(line)}' has no key before the '{line[at]}'");
            return;
        }

        string value = Text.Strip(line.AsSpan(at + 1)).ToString();
        if (value.Length > 0 && value[0] is '"' or '\'' && value[0] == value[^1])
            value = value.Length > 1 ? value[1..^1] : "";
        (_key, _keyLine) = (key, number);
        _value.Add(value);
    }

    private void Flush(string? next)
    {
        if (_key is { } key)
        {
            if (_group is { } group)
                _assignments.Add(new OsloAssignment(_name, _keyLine, group, key, string.Join('\n', _value), next));
            else
                Refuse(_keyLine, $"'{Text.Shorten(key)}' is in no group: a line such as [DEFAULT] or [pci] must stand before it");
        }

        _key = null;
        _value.Clear();
    }

    private void Refuse(int line, string message) => _errors.Add(new OsloError(_name, line, message));
}

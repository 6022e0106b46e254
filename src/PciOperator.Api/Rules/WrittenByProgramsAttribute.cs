namespace PciOperator.Api;

/// <summary>
/// Only programs write the kind. The rules of the records that it repeats are checked where a person writes them;
/// here they would multiply past the API server's budget for CEL, and could refuse a program what was once let in.
/// </summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class WrittenByProgramsAttribute : Attribute;

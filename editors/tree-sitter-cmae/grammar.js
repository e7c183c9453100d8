// The syntax of `.cmae` for tree-sitter. `grammar/cmae.pest` is the definition; rules here have its names and its order, and
// `editors/README.md` says where they are looser. `npm run generate` makes `src/` anew.

/** `rule`, one or more, with `,` between. */
const separated = (rule) => seq(rule, repeat(seq(',', rule)));
/** The same with a `,` at the end, where one may stand. */
const listed = (rule) => seq(separated(rule), optional(','));
/** The bracket of a call or an index, right behind its operand; a new line may open with the same sign. */
const close = (sign) => token.immediate(prec(1, sign));

module.exports = grammar({
  name: 'cmae',

  extras: ($) => [/[ \t\r\n]/, $.comment, $.doc_comment],
  word: ($) => $.name,

  conflicts: ($) => [
    // After `for u in a,` stands another loop (`v in b`) or the call's next argument.
    [$.comprehension],
    // `role` and `frozen` behind a parameter belong to it, or name the next definition.
    [$.tensor_decl],
    // `from` behind a value belongs to it, or names the next definition.
    [$.binding],
    [$._bound],
  ],

  rules: {
    // ------------------------------------------------------------------------------------------ files and items
    file: ($) => seq(repeat($.use_item), repeat($._item)),

    use_item: ($) => seq('use', choice($.use_pipeline, $.use_names)),
    use_pipeline: ($) =>
      seq(
        'pipeline',
        repeat(seq($._name, '::')),
        field('name', $._name),
        optional(seq('as', field('alias', $._name))),
      ),
    use_names: ($) => seq($._name, repeat(seq('::', $._name)), optional(seq('::', $.use_group))),
    use_group: ($) => seq('{', listed($.use_names), '}'),

    _item: ($) => choice($.block, $.function, $.variant, $.pipeline),

    block: ($) =>
      seq('block', field('name', $._name), field('params', $.params), '{', repeat($._block_entry), $.forward, '}'),
    _block_entry: ($) => choice($.tensor_decl, $.require, $.binding),
    forward: ($) =>
      seq('forward', field('params', $.params), optional(field('returns', $.returns)), field('body', $.body)),

    function: ($) =>
      seq(
        'fn',
        field('name', $._name),
        field('params', $.params),
        optional(field('returns', $.returns)),
        field('body', $.body),
      ),
    returns: ($) => seq('->', $._type),
    body: ($) => seq('{', repeat($._statement), field('value', $._expr), '}'),
    _statement: ($) => choice($.require, $.update, $.initial, $.assignment),
    assignment: ($) => seq(field('name', $._name), '=', field('value', $._expr)),
    update: ($) => seq('update', field('name', $._name), '=', field('value', $._expr)),
    initial: ($) => seq('init', field('name', $._name), '=', field('value', $._expr)),
    require: ($) => seq('require', field('condition', $._expr), ',', $.string, optional(seq(',', $.string))),

    params: ($) => seq('(', optional(listed($.param)), ')'),
    param: ($) => seq(field('name', $._name), ':', field('type', $._type), optional(seq('=', field('value', $._expr)))),
    _type: ($) => choice($.shape, $.record_type, $.type_name),
    type_name: ($) => seq($._name, optional($.optional)),
    optional: () => '?',
    shape: ($) => seq('[', optional(separated($._dim)), ']', optional($.optional)),
    _dim: ($) => choice($.rest_dims, $._expr),
    rest_dims: () => '..',
    record_type: ($) => seq('{', listed($.record_field), '}'),
    record_field: ($) => seq(field('name', $._name), ':', field('type', choice($.shape, $.type_name))),

    tensor_decl: ($) =>
      seq(
        choice('param', 'state'),
        field('name', $._name),
        ':',
        field('type', $.shape),
        '=',
        field('value', $._expr),
        optional($.when),
        optional($.frozen),
        optional($.role),
      ),
    frozen: ($) => seq('frozen', optional($.when)),
    when: ($) => seq('when', field('condition', $._expr)),
    role: ($) => seq('role', field('name', $._name)),

    binding: ($) =>
      seq(field('name', $._name), '=', field('value', $._expr), optional($.repeat), optional($.from), optional($.when)),
    from: ($) => seq('from', field('weights', $._expr)),
    repeat: ($) => seq('repeat', field('count', $._expr), optional(seq('as', field('index', $._name)))),

    // ------------------------------------------------------------------------------------------ pipelines
    pipeline: ($) =>
      seq(
        'pipeline',
        field('name', $._name),
        '{',
        repeat(choice($.pipeline_param, $.section, $.evaluate, $.branch, $.train, $.export)),
        '}',
      ),
    pipeline_param: ($) => seq('param', field('name', $._name), '=', field('value', $._expr)),
    section: ($) => seq(field('name', $.section_name), '{', repeat($.binding), '}'),
    section_name: () => choice('data', 'views', 'model', 'losses', 'monitor'),
    evaluate: ($) => seq('evaluate', '{', repeat(choice($.binding, $.call_entry)), '}'),
    call_entry: ($) => $.call,
    branch: ($) =>
      seq(
        'branch',
        field('name', $._name),
        optional($.for_loop),
        '{',
        repeat(choice($.require, $.assignment)),
        '}',
      ),
    for_loop: ($) => seq('for', field('name', $._name), 'in', field('list', $._expr)),
    train: ($) => seq('train', '{', repeat(choice($.parameters, $.binding)), '}'),
    parameters: ($) => seq('parameters', '{', repeat($.parameter_rule), '}'),
    parameter_rule: ($) => seq(choice($.rule_roles, $.rule_paths), ':', separated($.assignment)),
    rule_roles: ($) => seq('role', separated($._name)),
    rule_paths: ($) => seq('path', separated($._expr), optional($.for_loop)),
    export: ($) => seq('export', '=', field('value', $._expr)),

    variant: ($) =>
      seq(
        'pipeline',
        field('name', $._name),
        '=',
        field('base', $._name),
        'with',
        '{',
        repeat($._variant_entry),
        '}',
      ),
    _variant_entry: ($) =>
      choice($.pipeline_param, $.branch, $.parameters, $.addition, $.removal, $.override_entry),
    addition: ($) => seq('add', choice($.branch, $.parameters, seq(field('path', $.dotted), $._bound))),
    removal: ($) => seq('remove', separated(field('path', $.dotted))),
    override_entry: ($) => seq(field('path', $.dotted), $._bound),
    _bound: ($) => seq('=', field('value', $._expr), optional($.repeat), optional($.from), optional($.when)),
    dotted: ($) => seq($._name, repeat(seq(token.immediate('.'), $._name))),

    // ------------------------------------------------------------------------------------------ expressions
    // Each level is the one above it or an operation of its own, as in the definition; no operand's place is open to a looser one.
    _expr: ($) => choice($._conditional, $.pipe),
    pipe: ($) => seq(field('left', $._expr), '|>', field('right', $._conditional)),
    _conditional: ($) => choice($._or, $.conditional),
    conditional: ($) =>
      seq(field('then', $._or), 'if', field('condition', $._or), 'else', field('otherwise', $._conditional)),
    _or: ($) => choice($._and, $.or),
    or: ($) => seq($._or, 'or', $._and),
    _and: ($) => choice($._comparison, $.and),
    and: ($) => seq($._and, 'and', $._comparison),
    _comparison: ($) => choice($._range, $.comparison),
    comparison: ($) => seq($._range, choice('==', '!=', '<=', '>=', '<', '>'), $._range),
    _range: ($) => choice($._sum, $.range),
    range: ($) => seq($._sum, '..', $._sum),
    _sum: ($) => choice($._product, $.sum),
    // A `-` on the next line goes on with the line before it.
    sum: ($) => prec(1, seq($._sum, choice('+', '-'), $._product)),
    _product: ($) => choice($._unary, $.product),
    product: ($) => seq($._product, choice('*', '/', '%'), $._unary),
    _unary: ($) => choice($._postfix, $.unary),
    unary: ($) => seq(choice('-', 'not'), $._unary),

    _postfix: ($) => choice($._primary, $.field, $.call, $.index),
    field: ($) => seq(field('of', $._postfix), token.immediate('.'), field('name', $._name)),
    call: ($) => seq(field('function', $._postfix), field('arguments', $.arguments)),
    arguments: ($) => seq(close('('), optional(separated($.argument)), optional(','), ')'),
    argument: ($) => seq(optional(seq(field('name', $._name), ':')), $._comprehended),
    _comprehended: ($) => seq($._expr, optional($.comprehension)),
    comprehension: ($) => seq('for', separated($.loop_over), optional(seq('if', field('condition', $._or)))),
    loop_over: ($) => seq(field('name', $._name), 'in', field('list', $._or)),
    index: ($) => seq(field('of', $._postfix), close('['), $._expr, ']'),

    _primary: ($) =>
      choice($.string, $.boolean, $.none, $.duration, $.quantity, $._path, $.group, $.list, $.record),
    _path: ($) => choice($._name, $.path),
    path: ($) => seq(repeat1(seq($._name, token.immediate('::'))), field('name', $._name)),
    group: ($) => seq('(', listed($._expr), ')'),
    list: ($) => seq('[', optional(seq($._expr, choice($.comprehension, repeat(seq(',', $._expr))))), optional(','), ']'),
    record: ($) => seq('{', listed($.record_entry), '}'),
    record_entry: ($) => seq(field('name', $._name), optional(seq(':', field('value', $._expr)))),

    boolean: () => choice('true', 'false'),
    none: () => 'none',
    duration: ($) => seq($.number, $.time_unit),
    time_unit: () => choice('epochs', 'epoch', 'steps', 'step'),
    quantity: ($) => seq($.number, optional($.unit)),
    unit: () => token.immediate(prec(1, choice('%', 'px'))),
    number: () => /[0-9]+(_[0-9]+)*(\.[0-9]+)?([eE][+-]?[0-9]+)?/,

    string: ($) =>
      seq('"', repeat(choice($._text, $.escape, $.placeholder)), token.immediate('"')),
    escape: () => token.immediate(prec(2, '\\"')),
    // `{ratio}` in messages, `{i}` in the paths of rules.
    placeholder: () => token.immediate(prec(1, /\{[^{}"\\\r\n]*\}/)),
    _text: () => token.immediate(/[^"\\{\r\n]+|[\\{]/),

    // Words that mean something at one place only are names everywhere else.
    _name: ($) => choice($.name, alias(choice('init', 'add', 'remove', 'role', 'frozen', 'from', 'parameters'), $.name)),
    name: () => /[A-Za-z_][A-Za-z0-9_]*/,

    comment: () => token(prec(-1, /\/\/[^\r\n]*/)),
    doc_comment: () => token(/\/\/\/[^\r\n]*/),
  },
});

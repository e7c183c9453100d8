;;; cmae-mode.el --- Editing .cmae files, the language of cmaec  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT OR Apache-2.0
;; Version: 0.1.0
;; Package-Requires: ((emacs "27.1"))
;; Keywords: languages

;;; Commentary:

;; Colours, comments, indentation and an index for `.cmae' files; `eglot' starts `cmaec lsp'.  To use it:
;;
;;   (add-to-list 'load-path "CLONE/editors/emacs")
;;   (require 'cmae-mode)

;;; Code:

;; These are the words of `grammar/cmae.pest'; a check compares the lists.
(defconst cmae-reserved-words
  '("use" "pipeline" "block" "fn" "forward" "param" "state" "update" "require" "branch" "when" "repeat" "for" "with" "if"
    "else" "and" "or" "not")
  "Words that are names only before a colon or behind a dot.")

(defconst cmae-constant-words
  '("true" "false" "none")
  "Words that stand for a value.")

(defconst cmae-section-words
  '("data" "views" "model" "losses" "monitor" "evaluate" "train" "parameters")
  "Words that begin a section; a brace follows.")

(defconst cmae-contextual-words
  '("export" "frozen" "role" "path" "add" "remove" "init" "in" "as" "from")
  "Words at one place each, and names everywhere else.")

(defconst cmae-unit-words
  '("epochs" "epoch" "steps" "step" "px")
  "What may stand behind a number.")

(defgroup cmae nil
  "Editing .cmae files."
  :group 'languages)

(defcustom cmae-indent-offset 2
  "Columns by which the inside of a bracket is moved in."
  :type 'integer
  :safe #'integerp)

(defcustom cmae-program "cmaec"
  "The program that checks and formats `.cmae' files."
  :type 'string)

(defface cmae-number '((t :inherit font-lock-constant-face))
  "Numbers with their units.")

(defface cmae-field '((t :inherit default))
  "What stands behind a dot.")

(defvar cmae-mode-syntax-table
  (let ((table (make-syntax-table)))
    (modify-syntax-entry ?/ ". 12" table)
    (modify-syntax-entry ?\n ">" table)
    (modify-syntax-entry ?\" "\"" table)
    (modify-syntax-entry ?\\ "." table)
    (modify-syntax-entry ?_ "_" table)
    (dolist (sign '(?+ ?- ?* ?% ?= ?< ?> ?| ?! ?? ?: ?.))
      (modify-syntax-entry sign "." table))
    table)
  "Syntax of `.cmae' files.")

(defconst cmae--syntax-propertize
  ;; A backslash stands for itself, but before a quote.
  (syntax-propertize-rules ("\\(\\\\\\)\"" (1 "\\")))
  "Escaped quotes.")

(defconst cmae--name "\\_<[A-Za-z_][A-Za-z0-9_]*\\_>")

(defun cmae--words (list)
  "A regexp of the words of LIST, as group 1."
  (concat "\\_<" (regexp-opt list t) "\\_>"))

;; An earlier rule keeps what it has coloured.
(defconst cmae-font-lock-keywords
  `(("[0-9][0-9_]*\\(?:\\.[0-9]+\\)?\\(?:[eE][+-]?[0-9]+\\)?\\(?:%\\|px\\_>\\|[ \t]*\\(?:epochs?\\|steps?\\)\\_>\\)?"
     (0 (if (cmae--number-p (match-beginning 0)) 'cmae-number)))
    (,(concat "\\.\\(" cmae--name "\\)") (1 (unless (eq (char-before (match-beginning 0)) ?.) 'cmae-field)))
    ;; Pairs that are words together.
    (,(concat "\\_<for\\s-+\\(" cmae--name "\\)\\s-+\\(in\\)\\_>")
     (1 font-lock-variable-name-face) (2 font-lock-keyword-face))
    (,(concat ",\\s-*\\(" cmae--name "\\)\\s-+\\(in\\)\\_>") (1 font-lock-variable-name-face) (2 font-lock-keyword-face))
    (,(concat "\\_<\\(role\\)\\s-+\\(" cmae--name "\\(?:\\s-*,\\s-*" cmae--name "\\)*\\)")
     (0 (cmae--role)))
    (,(concat "\\_<\\(init\\|add\\)\\s-+\\(" cmae--name "\\)\\s-*\\(?:\\.\\|=[^=]\\)")
     (1 font-lock-keyword-face) (2 font-lock-variable-name-face))
    ("\\(?:^\\|[{]\\)\\s-*\\(add\\)\\s-+\\(?:branch\\s-+[a-zA-Z_]\\|parameters\\s-*{\\)" 1 font-lock-keyword-face)
    ("\\(?:^\\|[{]\\)\\s-*\\(remove\\)\\s-+[a-zA-Z_]" 1 font-lock-keyword-face)
    ("^\\s-*\\(path\\)\\s-+[\"a-zA-Z_(\\[]" 1 font-lock-keyword-face)
    ("[{]\\s-*\\(path\\)\\s-+[\"a-zA-Z_(\\[]" 1 font-lock-keyword-face)
    ("\\_<\\(export\\)\\s-*=[^=]" 1 font-lock-keyword-face)
    ("[])A-Za-z0-9_\"%]\\s-+\\(frozen\\)\\(?:\\s-*$\\|\\s-+\\(?:when\\|role\\|//\\)\\)" 1 font-lock-keyword-face)
    ("\\(?:[])A-Za-z0-9_\"%]\\s-+\\|^\\s-*\\)\\(from\\)\\s-+[a-zA-Z_(\"]" 1 font-lock-keyword-face)
    (,(concat "[])A-Za-z0-9_\"]\\s-+\\(as\\)\\s-+\\(" cmae--name "\\)")
     (1 font-lock-keyword-face) (2 font-lock-variable-name-face))
    ;; Names before a colon may be any word.
    (,(concat "\\(" cmae--name "\\)\\s-*:\\(?:[^:]\\|$\\)") 1 font-lock-variable-name-face)
    ;; Definitions.
    (,(concat "\\_<\\(fn\\)\\s-+\\(" cmae--name "\\)")
     (1 font-lock-keyword-face) (2 font-lock-function-name-face))
    (,(concat "\\_<\\(block\\|branch\\|pipeline\\)\\s-+\\(" cmae--name "\\)")
     (1 font-lock-keyword-face) (2 font-lock-type-face))
    (,(concat "->\\s-*\\(" cmae--name "\\)") 1 font-lock-type-face)
    (,(concat (cmae--words cmae-section-words) "\\s-*{") 1 font-lock-keyword-face)
    (,(cmae--words cmae-constant-words) 1 font-lock-constant-face)
    (,(cmae--words cmae-reserved-words) 1 font-lock-keyword-face)
    (,(concat "\\(" cmae--name "\\)::") 1 font-lock-type-face)
    (,(concat "\\(" cmae--name "\\)(") 1 font-lock-function-name-face)
    (,(concat "\\(" cmae--name "\\)\\s-*=\\(?:[^=]\\|$\\)") 1 font-lock-variable-name-face))
  "Colours of `cmae-mode'.")

(defun cmae--number-p (start)
  "Whether the digits at START begin a number, and are no part of a name."
  (not (memq (char-syntax (or (char-before start) ?\s)) '(?w ?_))))

(defun cmae--role ()
  "Colours `role' and the names behind it, unless it is a name itself."
  (unless (member (match-string-no-properties 2) '("if" "else" "and" "or" "not" "in" "when" "for"))
    (put-text-property (match-beginning 1) (match-end 1) 'face 'font-lock-keyword-face)
    (put-text-property (match-beginning 2) (match-end 2) 'face 'font-lock-type-face)
    nil))

(defun cmae--continued (column)
  "Where a line at point begins that goes on with the one before it.
COLUMN is that of a line of its own."
  (let ((pipe (and (looking-at-p "|>")
                   (save-excursion
                     (forward-line -1)
                     (when (re-search-forward "|>" (line-end-position) t)
                       (- (match-beginning 0) (line-beginning-position)))))))
    ;; One that was set further in stays there.
    (or pipe (max (current-indentation) (+ column cmae-indent-offset)))))

(defun cmae-indent-line ()
  "Moves the line in by one step for the bracket that is open before it."
  (interactive)
  (let* ((column
          (save-excursion
            (back-to-indentation)
            (let* ((closes (looking-at-p "[]})]"))
                   (continues (looking-at-p "|>\\|[-+*/%=!<]\\(?:=\\|\\s-\\)\\|\\_<\\(?:if\\|else\\|and\\|or\\|when\\|frozen\\)\\_>"))
                   (open (nth 1 (syntax-ppss)))
                   (column (if (null open)
                               0
                             (save-excursion
                               (goto-char open)
                               (+ (current-indentation) (if closes 0 cmae-indent-offset))))))
              (if continues (cmae--continued column) column))))
         (behind (- (current-column) (current-indentation))))
    (indent-line-to column)
    (when (> behind 0)
      (move-to-column (+ column behind)))))

(defun cmae-format-buffer ()
  "Lays the buffer out as `cmaec fmt' does."
  (interactive)
  (let ((from (current-buffer))
        (to (generate-new-buffer " *cmaec fmt*")))
    (unwind-protect
        (if (eq 0 (call-process-region (point-min) (point-max) cmae-program nil (list to nil) nil "fmt" "-"))
            (with-current-buffer from (replace-buffer-contents to))
          (user-error "`%s fmt' refuses the text: check it first" cmae-program))
      (kill-buffer to))))

;;;###autoload
(define-derived-mode cmae-mode prog-mode "cmae"
  "Major mode for `.cmae' files."
  (setq-local comment-start "// "
              comment-end ""
              comment-start-skip "///*\\s-*"
              indent-line-function #'cmae-indent-line
              indent-tabs-mode nil
              syntax-propertize-function cmae--syntax-propertize
              font-lock-defaults '(cmae-font-lock-keywords)
              imenu-generic-expression
              `(("Pipelines" ,(concat "^\\s-*pipeline\\s-+\\(" cmae--name "\\)") 1)
                ("Branches" ,(concat "^\\s-*branch\\s-+\\(" cmae--name "\\)") 1)
                ("Blocks" ,(concat "^\\s-*block\\s-+\\(" cmae--name "\\)") 1)
                ("Functions" ,(concat "^\\s-*fn\\s-+\\(" cmae--name "\\)") 1))))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\.cmae\\'" . cmae-mode))

(defvar eglot-server-programs)
(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs (cons 'cmae-mode (lambda (&rest _) (list cmae-program "lsp")))))

(provide 'cmae-mode)

;;; cmae-mode.el ends here
